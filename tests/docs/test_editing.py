"""The page about editing says what the command takes, and its example runs."""

import json
import re
from pathlib import Path

import pytest
import yaml

from spd_lightning import DecomposedModel, ToyModelOfSuperposition
from spd_lightning.analysis.__main__ import main

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


def test_the_example_in_python_runs(run):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/editing.md", "exec"), {})

    report = json.loads(Path("edited/edit.json").read_text())
    assert [(edit["component"], edit["factor"]) for edit in report["edits"]] == [(33, 0.0), (0, 0.5)]


def test_the_command_runs_and_says_lines_like_those_shown(run, capsys):
    command = re.findall(r"^python -m spd_lightning.analysis (edit .*)$", PAGE, re.MULTILINE)[0].split()
    main(command)
    said = capsys.readouterr().out.splitlines()
    shown = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()

    assert said[-1] == "written to edited"
    assert list(map(_words, said[:5])) == list(map(_words, shown[:5]))


def _words(line):
    """A line without its numbers and its spacing."""
    return re.sub(r"\d[\d.]*", "#", line).split()


def test_every_option_is_on_the_page(capsys):
    with pytest.raises(SystemExit):
        main(["edit", "--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out)) - {"--help"}
    assert {"--remove", "--output"} < options
    assert not {option for option in options if option not in PAGE}
