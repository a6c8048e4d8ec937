"""The page about attribution graphs says what the command takes, and its example runs."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel, ToyModelOfSuperposition
from spd_lightning.analysis import read_graph
from spd_lightning.analysis.__main__ import main
from spd_lightning.analysis.attribution_graph import KINDS

PAGE = (Path(__file__).parents[2] / "docs/graphs.md").read_text()
DATA = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 5, "val_batches": 1, "val_batch_size": 64, "feature_probability": 0.7},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run directory where the page has one."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/tms_5-2-id/version_0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = ToyModelOfSuperposition(5, 2, n_identity_layers=1)
    model = DecomposedModel(target, {"linear*": 40, "hidden_layers.*": 40}, ties={"linear2": "linear1"})
    model.save_pretrained(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {}, "data": DATA}))
    return folder


def test_the_example_in_python_runs(run, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/graphs.md", "exec"), {})

    assert read_graph("graphs/example").examples == 0
    assert "output:" in capsys.readouterr().out


def test_the_command_runs_and_says_lines_like_those_shown(run, capsys):
    command = re.findall(r"^python -m spd_lightning.analysis (graph .*)$", PAGE, re.MULTILINE)[0].split()
    main(command)
    said = capsys.readouterr().out.splitlines()
    shown = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()

    assert said[-1] == shown[-1]
    for here, there in zip(said[:3], shown[:3], strict=True):
        assert _words(here.partition(":")[0]) == _words(there.partition(":")[0])
    assert re.match(r"[+-]\d+\.\d%  .* -> output:\d", said[3])
    assert re.match(r"[+-]\d+\.\d%  .* -> output:\d", shown[3])


def _words(line):
    """A line without its numbers and its spacing."""
    return re.sub(r"\d[\d.]*", "#", line).split()


def test_every_option_and_kind_of_node_is_on_the_page(capsys):
    with pytest.raises(SystemExit):
        main(["graph", "--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out)) - {"--help"}
    assert {"--text", "--share"} < options
    assert not {option for option in options if option not in PAGE}
    assert not {kind for kind in KINDS if kind not in PAGE}
