"""Harvests that are killed and gone on with leave the bytes of one that was left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel, KeywordCall, LanguageModel, ToyModelOfSuperposition
from spd_lightning.analysis.__main__ import main
from tests.analysis.killed_harvests import MOMENTS
from tests.data.texts import documents, folder_of
from tests.networks.models import randomised

SPARSE = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 4, "val_batches": 4, "val_batch_size": 40, "feature_probability": 0.4},
}
CALL = {"inputs": ["input_ids", "attention_mask"], "weights": "attention_mask", "output": "logits"}


def _written(folder, model, data):
    model.save_pretrained(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {}, "model": {}, "data": data}))
    return folder


@pytest.fixture
def toy(tmp_path):
    """A run directory of a toy model."""
    return _written(
        tmp_path / "toy", randomised(DecomposedModel(ToyModelOfSuperposition(4, 3), {"linear*": 5})), SPARSE
    )


@pytest.fixture
def language(tmp_path):
    """A run directory of a language model."""
    text = {"sources": [folder_of(tmp_path / "texts", documents(12))], "vocabulary": 300, "length": 8}
    text |= {"val_fraction": 0.4, "batch_size": 2, "val_batch_size": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = LanguageModel("gpt2", vocabulary=300, length=8, width=8, layers=1, heads=2)
    model = DecomposedModel(target, {"*.c_attn[v]": 3, "*.mlp.c_proj": 4}, call=KeywordCall(**CALL))
    return _written(
        tmp_path / "language", randomised(model), {"class_path": "spd_lightning.TextTokens", "init_args": text}
    )


@pytest.mark.parametrize(("name", "moments"), [("toy", list(MOMENTS)), ("language", ["rows"])])
def test_one_that_is_killed_and_gone_on_with_leaves_the_same_bytes(name, moments, request, tmp_path):
    run = request.getfixturevalue(name)
    command = [sys.executable, "-m", "tests.analysis.killed_harvests", str(run), str(tmp_path / "tries"), *moments]
    given = {"SPD_LIGHTNING_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=os.environ | given, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [*moments, "one after the other"]
    for moment, one in found.items():
        assert one["codes"][0] == -signal.SIGKILL, moment
        assert one["codes"][-1] == 0, (moment, done.stderr)
        assert one["differing"] == [], moment
        assert one["left"] == ["harvest.jsonl", "harvest.safetensors"], moment
    assert found["one after the other"]["codes"][:-1].count(-signal.SIGKILL) >= 5


def test_rows_that_are_not_of_a_harvest_are_left_alone(toy, capsys):
    (toy / "analysis").mkdir()
    (toy / "analysis/harvest.jsonl").write_text("mine\n")
    with pytest.raises(SystemExit) as stopped:
        main(["harvest", str(toy)])
    assert stopped.value.code == 2
    assert "exists, and nothing is overwritten" in capsys.readouterr().err
    assert (toy / "analysis/harvest.jsonl").read_text() == "mine\n"


def test_several_processes_are_refused(toy, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stopped:
        main(["harvest", str(toy)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "error: harvest runs in one process, got WORLD_SIZE='2'; start it without torchrun\n"
    )
    assert not (toy / "analysis").exists()
