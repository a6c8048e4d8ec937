"""The page about editing says what the command takes, and its example runs."""

import json
import re
from pathlib import Path

import pytest
import yaml

from spd_lightning import DecomposedModel, ToyModelOfSuperposition
from spd_lightning.analysis.__main__ import main
from tests.analysis.edits import known_residual_mlp
from tests.analysis.run_directories import written

PAGE = (Path(__file__).parents[2] / "docs/editing.md").read_text()
DATA = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 5, "val_batches": 1, "val_batch_size": 64},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run directory where the page has one."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/tms/version_0")
    model = DecomposedModel(ToyModelOfSuperposition(5, 2), {"linear*": 40}, ties={"linear2": "linear1"})
    model.save_pretrained(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {}, "data": DATA}))
    return folder


def _run(words):
    """The one example that uses something."""
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if words in block)
    exec(compile(block, "docs/editing.md", "exec"), {})


def test_the_example_in_python_runs(run):
    _run("save_edited")

    report = json.loads(Path("edited/edit.json").read_text())
    assert [(edit["component"], edit["factor"]) for edit in report["edits"]] == [(33, 0.0), (0, 0.5)]


def test_the_command_runs_and_says_lines_like_those_shown(run, capsys):
    command = re.findall(r"^python -m spd_lightning.analysis (edit .*)$", PAGE, re.MULTILINE)[0].split()
    main(command)
    said = capsys.readouterr().out.splitlines()
    shown = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()

    assert said[-1] == "written to edited"
    assert list(map(_words, said[:5])) == list(map(_words, shown[:5]))


def test_the_example_holds_plain_and_fitted_edits_against_a_network_that_never_knew(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = {"n_features": 4, "feature_probability": 0.3, "value_min": -1.0, "val_batches": 1, "val_batch_size": 64}
    described = {"class_path": "spd_lightning.SparseFeatures", "init_args": data | {"batch_size": 512}}
    written(Path("runs/residual_mlp_1/version_0"), known_residual_mlp(layers=1), described)
    _run("never")

    lines = [re.findall(r"0\.\d+", line) for line in capsys.readouterr().out.splitlines()]
    plain, fitted = (list(map(float, line)) for line in lines)
    assert max(plain) < 1e-3  # its features are orthogonal, and its components exact
    assert max(fitted) < 0.02  # but for the noise of the data


def _words(line):
    """A line without its numbers and its spacing."""
    return re.sub(r"\d[\d.]*", "#", line).split()


def test_every_option_is_on_the_page(capsys):
    with pytest.raises(SystemExit):
        main(["edit", "--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out)) - {"--help"}
    assert {"--remove", "--output"} < options
    assert not {option for option in options if option not in PAGE}
