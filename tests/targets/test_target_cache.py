"""Trained once, kept, and shared by processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from spd_lightning import FeatureTraining, ToyModelOfSuperposition, UsageError
from spd_lightning.targets.cache import TargetCache, cache_folder
from tests.targets.racer import race

SHORT = {"steps": 400, "batch_size": 128, "lr": 2e-2, "feature_probability": 0.3, "weight_decay": 0.0}


class Counted(ToyModelOfSuperposition):
    """Counts how often it was trained: every training starts from new weights."""

    def __init__(self, n_features: int = 3, n_hidden: int = 3) -> None:
        self.starts = 0
        super().__init__(n_features, n_hidden)

    def reset_parameters(self):
        super().reset_parameters()
        self.starts += 1

    @property
    def trainings(self):
        return self.starts - 1


def _kept(cache):
    return sorted(cache.glob("targets/*.safetensors"))


def test_the_second_time_nothing_is_trained(cache):
    first, second = Counted(), Counted()
    FeatureTraining(**SHORT).prepare(first)
    (file,) = _kept(cache)
    written = file.stat().st_mtime_ns

    FeatureTraining(**SHORT).prepare(second)

    assert (first.trainings, second.trainings) == (1, 0)
    assert _kept(cache) == [file]
    assert file.stat().st_mtime_ns == written
    assert torch.equal(first.linear1.weight, second.linear1.weight)
    assert torch.equal(first.linear2.bias, second.linear2.bias)


@pytest.mark.parametrize("damage", [b"", b"not tensors at all", None], ids=["empty", "foreign", "cut off"])
def test_a_damaged_file_is_made_anew(damage, cache):
    first, second, third = Counted(), Counted(), Counted()
    FeatureTraining(**SHORT).prepare(first)
    (file,) = _kept(cache)
    file.write_bytes(file.read_bytes()[:-8] if damage is None else damage)

    FeatureTraining(**SHORT).prepare(second)
    FeatureTraining(**SHORT).prepare(third)

    assert (second.trainings, third.trainings) == (1, 0)
    assert torch.equal(first.linear1.weight, second.linear1.weight)


def test_what_differs_in_any_way_lies_in_another_file():
    cache = TargetCache()
    description = {"network": {"class_path": "A", "init_args": {"n": 3}}, "recipe": {"seed": 0}}
    others = [
        {"network": {"class_path": "B", "init_args": {"n": 3}}, "recipe": {"seed": 0}},
        {"network": {"class_path": "A", "init_args": {"n": 4}}, "recipe": {"seed": 0}},
        {"network": {"class_path": "A", "init_args": {"n": 3}}, "recipe": {"seed": 1}},
    ]
    paths = {cache.path(some) for some in [description, *others]}

    assert len(paths) == 4
    assert cache.path(dict(reversed(description.items()))) == cache.path(description)


def test_another_seed_is_trained_and_kept_beside_the_first(cache):
    first, other = Counted(), Counted()
    FeatureTraining(**SHORT).prepare(first)
    FeatureTraining(**SHORT, seed=1).prepare(other)

    assert other.trainings == 1
    assert len(_kept(cache)) == 2
    assert not torch.equal(first.linear1.weight, other.linear1.weight)


def test_a_file_tells_what_it_is(cache):
    TargetCache().get({"what": "ones"}, lambda: {"w": torch.ones(2, 3).T})

    (file,) = _kept(cache)
    with safe_open(file, "pt") as content:
        assert content.metadata()["description"] == '{"what": "ones"}'
        assert torch.equal(content.get_tensor("w"), torch.ones(3, 2))


def test_a_training_that_fails_leaves_no_file_and_no_lock_behind(cache):
    def fail():
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        TargetCache().get({"what": "fails"}, fail)

    assert _kept(cache) == []
    made = TargetCache().get({"what": "fails"}, lambda: {"w": torch.ones(1)})
    assert made["w"].tolist() == [1.0]


def test_two_processes_that_start_at_once_train_once(cache, tmp_path):
    script = "import sys; from tests.targets.racer import race; print(race(*sys.argv[1:]))"
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), "theirs", "ours"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ours = race(tmp_path, "ours", "theirs")
        theirs, errors = other.communicate(timeout=60)
    finally:
        other.kill()

    assert other.returncode == 0, errors
    assert theirs.strip() == ours
    assert len(list(tmp_path.glob("*.trained"))) == 1
    assert len(_kept(cache)) == 1


def test_a_folder_that_cannot_be_used_is_named_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "file"))

    with pytest.raises(UsageError, match=r"the cache folder .*file/targets' cannot be used .*set SPD_LIGHTNING_CACHE"):
        FeatureTraining(**SHORT).prepare(Counted())


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path(os.environ["SPD_LIGHTNING_CACHE"])
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", "")
    assert cache_folder() == Path("/xdg/spd_lightning")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "spd_lightning"
