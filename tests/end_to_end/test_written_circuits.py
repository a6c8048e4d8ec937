"""Circuits that share neurons, in miniature and from scratch: every one is found, and which of its inputs need it."""

import json
from pathlib import Path

import pytest

from spd_lightning.cli.command import main
from spd_lightning.runs.verdict import shortfalls

pytestmark = pytest.mark.slow
CIRCUITS = 16


def test_every_circuit_of_both_matrices_has_its_component(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli = main(["fit", "--config", "mini/ping_pong.yaml", "--trainer.enable_progress_bar=false"])
    scores = json.loads((Path(cli.trainer.log_dir) / "metrics.json").read_text())["scores"]

    assert shortfalls(scores) == []
    for site in ("ping", "pong"):
        assert scores[f"recovery/{site}/terms_found"] == scores[f"alive/{site}"] == CIRCUITS
        assert scores[f"recovery/{site}/matched_cosine_min"] >= 0.99
        assert scores[f"recovery/{site}/term_contradictions_0.2"] == 0
