"""The page about circuits says what both commands take, and its examples run."""

import re
from pathlib import Path

import pytest
import yaml

from spd_lightning.analysis.__main__ import main
from tests.analysis.circuit_systems import known_induction

PAGE = (Path(__file__).parents[2] / "docs/circuits.md").read_text()
SEQUENCES = {"class_path": "spd_lightning.data.InductionSequences", "init_args": {"size": 8, "split": "test"}}
BATCHES = {"train": SEQUENCES, "val": SEQUENCES, "batch_size": 8}
DATA = {"class_path": "spd_lightning.DatasetBatches", "init_args": BATCHES}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run directory where the page has one."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/induction_by_hand/version_0")
    known_induction().save_pretrained(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {}, "data": DATA}))
    return folder


def test_the_example_in_python_runs(run, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/circuits.md", "exec"), {})

    assert re.fullmatch(r"tensor\(\[\d+, \d+\]\) tensor\(\[1., 1.\]\)\n", capsys.readouterr().out)
    assert Path("circuits/first.json").exists()


@pytest.mark.parametrize(("command", "shown"), [("circuit", 0), ("query_key", 2)])
def test_the_commands_say_lines_like_those_shown(command, shown, run, capsys):
    (first, *_) = re.findall(rf"^python -m spd_lightning.analysis ({command} .*)$", PAGE, re.MULTILINE)
    main([*first.split(), *(["--steps", "2"] if command == "circuit" else [])])
    said = capsys.readouterr().out.splitlines()
    lines = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[shown].splitlines()

    count = 10 if command == "circuit" else 2
    assert list(map(_words, said[:count])) == list(map(_words, lines[:count]))
    assert said[-1] == lines[-1]


def _words(line):
    """A line without its numbers and its spacing."""
    return re.sub(r"-?\d[\d.e-]*", "#", line).split()


@pytest.mark.parametrize("command", ["circuit", "query_key"])
def test_every_option_is_on_the_page(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out)) - {"--help"}
    assert "--name" in options
    assert not {option for option in options if option not in PAGE}
