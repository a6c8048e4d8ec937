"""The pages about harvests and labels say what the commands take, and their examples run."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel, ToyModelOfSuperposition
from spd_lightning.analysis.__main__ import main
from spd_lightning.runs.analysis_files import ROW_SHAPE
from tests.networks.models import randomised

DOCS = Path(__file__).parents[2] / "docs"
ANALYSIS, LABELS = (DOCS / "analysis.md").read_text(), (DOCS / "labels.md").read_text()
DATA = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 5, "val_batches": 2, "val_batch_size": 64, "feature_probability": 0.2},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run directory where the pages have one; its importances are random."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/tms/version_0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = ToyModelOfSuperposition(5, 2)
    model = randomised(DecomposedModel(target, {"linear*": 6}, ties={"linear2": "linear1"}))
    model.save_pretrained(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {}, "data": DATA}))
    return folder


def _words(line):
    """A line without its numbers and its spacing."""
    return re.sub(r"[\d.]+", "#", line).split()


def test_the_commands_run_and_say_lines_like_those_shown(run, capsys):
    harvest, cluster, read = (block.splitlines() for block in re.findall(r"```text\n(.*?)```", ANALYSIS, re.DOTALL))
    main(["harvest", str(run)])
    said = capsys.readouterr().out.splitlines()
    assert list(map(_words, said)) == list(map(_words, harvest))
    main(["cluster", str(run)])
    said = capsys.readouterr().out.splitlines()
    assert list(map(_words, said[:5])) == list(map(_words, cluster[:5]))
    assert said[-1] == cluster[-1]
    main(["label", str(run)])
    (shown,) = (block.splitlines() for block in re.findall(r"```text\n(.*?)```", LABELS, re.DOTALL))
    said = capsys.readouterr().out.splitlines()
    assert list(map(_words, said[-2:])) == list(map(_words, shown[-2:]))
    (block,) = re.findall(r"```python\n(.*?)```", ANALYSIS, re.DOTALL)
    exec(compile(block, "docs/analysis.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[-2].split("{")[1].split(":")[0] == read[-2].split("{")[1].split(":")[0] == "'index'"
    assert said[-1].startswith("{'linear")


def test_the_labeller_of_the_page_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", LABELS, re.DOTALL)
    exec(compile(block, "docs/labels.md", "exec"), {})
    assert f"# {capsys.readouterr().out}" in block


@pytest.mark.parametrize(("command", "page"), [("harvest", ANALYSIS), ("cluster", ANALYSIS), ("label", LABELS)])
def test_every_option_is_on_the_page(command, page, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out)) - {"--help"}
    assert "--import_classes" in options
    assert not {option for option in options if option not in page}


def test_every_entry_of_a_row_is_on_the_page():
    table = {
        word for line in re.findall(r"^\| (`[^|]*) \|", ANALYSIS, re.MULTILINE) for word in re.findall(r"\w+", line)
    }
    assert set(ROW_SHAPE) == table
