"""A recommendation from Python, its budget and its memory."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from spd_lightning import DatasetBatches, UsageError, untuned_losses
from spd_lightning.recommend import fitting, recommend
from spd_lightning.recommend.proposals import OF_A_SITE
from tests.recommend.networks import Own, Points, Squeezed, sparse


@pytest.fixture
def clock(monkeypatch):
    """Steps take as long as a test says, and none is taken."""
    said = SimpleNamespace(step=1e-3, warming=0.0)
    monkeypatch.setattr(fitting, "seconds_of_a_step", lambda *_: said.step)
    monkeypatch.setattr(fitting, "seconds_of_warming_up", lambda *_: said.warming)
    return said


def test_a_written_network():
    data = sparse(batch=128)
    found = recommend(Squeezed(), data, show=False)

    assert found.sites == {"down": 40, "up": 40, "out": 40}
    assert found.ties == {"up": "down"}
    assert found.distance == "mse"
    assert found.batch_size == 256  # 160 positions are wanted, a quarter of the examples is empty
    assert found.recipe["losses"].keys() == untuned_losses().keys()
    assert found.recipe["losses"]["importance"].price == untuned_losses()["importance"].price, "no trial has moved it"
    assert found.described["class_path"].endswith("PerSite")
    assert found.described["init_args"]["function"]["class_path"].endswith("InnerMLP")
    assert found.seconds > 0
    assert found.bytes > 4 * 4 * 40 * (9 + 12)  # components of two matrices: weights, gradients, two moments
    assert data.batch_size == 128  # as it was given
    assert not found.given_up
    names = [one.name for one in found.proposals]
    assert names == [
        "sites",
        "batch_size",
        "max_steps",
        "importance",
        "losses",
        "ties",
        "time",
        "memory",
    ]


def test_the_table_has_every_number_and_ground(clock):
    found = recommend(Squeezed(), sparse(), show=False)
    lines = str(found).splitlines()

    assert lines[0].split() == ["site", "weight", "rank", "dimension", "directions", "empty", "alone", "C"]
    assert lines[3].split()[:5] == ["out", "6", "x", "6", "2"]
    assert lines[3].split()[-1] == "40"
    text = " ".join(str(found).split())
    for one in found.proposals:
        assert f"{one.name} {one.value}. {one.ground}" in text
    beside = found.table({f"{OF_A_SITE}up": "7", "batch_size": "9"}).splitlines()
    assert [line.split()[-1] for line in beside[:3]] == ["given", "40", "7"]
    assert any("(given: 9)" in line for line in beside)


def test_tensors_datasets_and_loaders(clock):
    x = torch.randn(200, 4)
    assert recommend(Own(), x, show=False).batch_size == 32  # a quarter of the 180 that are trained on
    loader = DataLoader(Points(40), batch_size=5)
    found = recommend(Own(), loader, show=False)

    assert found.batch_size == 5
    assert "the data's own" in found.proposals[1].ground


def test_sites_that_are_named_are_taken():
    found = recommend(Own(), Points(), {"up": 3}, show=False)

    assert found.sites == {"up": 40}
    assert not found.left_out


class Half(Own):
    """A layer that does nothing."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Linear(4, 2)

    def forward(self, x):
        return super().forward(x) + (self.idle(x) - 100).relu()


def test_a_layer_that_does_nothing_is_left_out(clock):
    found = recommend(Half(), Points(), show=False)

    assert found.sites.keys() == {"up", "down"}
    assert found.left_out == {"idle": "ablating it alone changes nothing"}
    assert "no site: idle, ablating it alone changes nothing" in str(found)


def test_a_budget_takes_steps_first_then_components(clock, monkeypatch):
    whole = recommend(Own(width=30), Points(400), show=False)
    clock.step = 0.01
    fewer = recommend(Own(width=30), Points(400), minutes=0.5, show=False)

    assert whole.steps == 4000
    assert fewer.steps == 3000  # 30 seconds
    assert fewer.sites == whole.sites
    assert fewer.given_up == ("steps: 3000 in place of 4000",)
    monkeypatch.setattr(fitting, "seconds_of_a_step", lambda module, *_: 1e-4 * sum(module.sites.values()))
    smaller = recommend(Own(width=30), Points(400), minutes=0.15, show=False)

    assert smaller.sites == {"up": 20, "down": 20}
    assert smaller.given_up == ("components: 2 in place of 4 for each feature", "steps: 2200 in place of 4000")
    assert smaller.seconds <= 9


def test_the_warm_up_counts(clock):
    clock.warming = 4e-3
    found = recommend(Own(), Points(), minutes=3 / 60, show=False)

    assert found.seconds == pytest.approx(found.steps * (1e-3 + 4e-4))
    assert found.steps == 2100


def test_a_budget_that_fits_nothing_is_refused(clock):
    clock.step, data = 2.0, sparse(batch=128)
    with pytest.raises(UsageError, match="a budget of 10 minutes fits nothing: 2000 steps take 67 minutes here"):
        recommend(Squeezed(), data, minutes=10, show=False)
    assert data.batch_size == 128  # as it was given


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf"), "ten", True])
def test_a_budget_is_a_number_above_0(minutes):
    with pytest.raises(UsageError, match="minutes must be a number"):
        recommend(Own(), Points(), minutes=minutes, show=False)


def test_memory_takes_the_batch_first(clock, monkeypatch):
    whole = recommend(Own(), Points(4096), show=False)
    monkeypatch.setattr(fitting, "available_memory", lambda device: 1.2 * whole.bytes)
    smaller = recommend(Own(), Points(4096), show=False)

    assert smaller.batch_size < whole.batch_size
    assert smaller.sites == whole.sites
    assert smaller.bytes <= 0.6 * whole.bytes
    assert smaller.given_up[0].startswith(f"batch: {smaller.batch_size} in place of {whole.batch_size}")


@pytest.mark.parametrize("minutes", [None, 10])
def test_without_any_memory_nothing_fits(minutes, clock, monkeypatch):
    monkeypatch.setattr(fitting, "available_memory", lambda device: 1000)
    with pytest.raises(UsageError, match=r"^the memory fits nothing: .* GB for a step"):
        recommend(Own(), Points(4096), minutes=minutes, show=False)


def test_the_ground_of_a_batch_that_is_too_small_is_the_true_one(clock):
    largest = recommend(Squeezed(), sparse(probability=0.003), show=False)
    assert largest.batch_size == 4096
    assert largest.proposals[1].ground.endswith("4 are wanted, but no larger batch is proposed")
    few = recommend(Own(), Points(64), show=False)
    assert few.proposals[1].ground.endswith("4 are wanted, for which examples or memory are too few")


def test_refusals():
    with pytest.raises(UsageError, match=r"data: no batch can be had .OSError: the disk is gone"):
        recommend(Own(), DatasetBatches(Points(fails=True), batch_size=8), show=False)
    with pytest.raises(UsageError, match=r"data: the target fails on a batch of \[8, 7\] float32"):
        recommend(Own(), DatasetBatches(Points(width=7), batch_size=8), show=False)
    with pytest.raises(UsageError, match="a batch holds no examples"):
        recommend(Own(), DataLoader(Points(), batch_size=None, sampler=[slice(0, 0)]), show=False)
    with pytest.raises(UsageError, match=r"pattern 'upp' matches no module.*'up'"):
        recommend(Own(), Points(), {"upp": 1}, show=False)
    with pytest.raises(UsageError, match="device 'nowhere' cannot be used"):
        recommend(Own(), Points(), device="nowhere", show=False)
    with pytest.raises(UsageError, match="its output holds NaN"):
        recommend(Own(), torch.full((40, 4), torch.nan), show=False)
