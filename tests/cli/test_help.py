"""Help is short, true, and leads to the rest; what needs no parser is answered without one."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

import spd_lightning
from spd_lightning.cli import shipped
from spd_lightning.cli.command import DecompositionCLI, main
from spd_lightning.cli.flags import COMMANDS, PARTS, RUNNING, is_known, known_flags
from spd_lightning.cli.wording import _names

ROOM = Path(spd_lightning.__file__).parent / "cli"
TWO_SCREENS = 60
QUICK = ("quick", "help", "flags", "near", "shipped")


def test_the_full_help_names_the_classes_of_this_package_alone(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help.model"])

    text = capsys.readouterr().out
    assert "torch.ao" not in text
    assert "HuggingFaceModel" in text


class _Parsers(DecompositionCLI):
    """The parsers of all commands with a method, and nothing parsed."""

    def parse_arguments(self, parser, args):
        self.names = {command: _names(self.parsers[command]) for command in RUNNING}
        raise KeyError

    def __init__(self, method):
        with pytest.raises(KeyError):
            super().__init__(["fit", f"--method={method}"])


@pytest.fixture
def told(capsys):
    """Give a command that is answered with text; returns the text."""

    def give(*args):
        with pytest.raises(SystemExit) as stopped:
            main(list(args))
        written = capsys.readouterr()
        assert stopped.value.code == 0, written.err
        assert not written.err
        return written.out

    return give


def test_the_known_flags_are_those_of_the_parser():
    methods = [_Parsers("spd"), _Parsers("apd")]
    for command in RUNNING:
        assert known_flags(command) == set().union(*(one.names[command] for one in methods)), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_two_screens_and_names_flags_that_exist(command, told):
    text = told(command, "--help")
    assert len(text.splitlines()) <= TWO_SCREENS
    assert max(map(len, text.splitlines())) <= 100
    assert f"  python -m spd_lightning {command}" in text
    if command in RUNNING:
        flags = {flag.partition(".NAME")[0].partition(".TERM")[0] for flag in re.findall(r"--([\w.]+)", text)}
        assert not [flag for flag in flags if not flag.startswith("help.") and not is_known(flag, known_flags(command))]
        assert {f"help.{part}" for part in PARTS} <= flags


def test_help_of_fit_has_what_a_run_needs(told):
    text = told("fit", "--help")
    needed = "config resume method trainer.max_steps trainer.devices trainer.precision model.sites model.losses"
    for flag in [*needed.split(), "seed_everything", "ckpt_path", "data"]:
        assert f"  --{flag}" in text
    assert text.index("python -m spd_lightning fit --config") < text.index("  --config")


def test_help_without_a_command_names_all_of_them(told):
    text = told("--help")
    assert not [command for command in COMMANDS if f"\n  {command} " not in text]
    assert len(text.splitlines()) <= TWO_SCREENS


def test_the_rest_is_found_by_part(told):
    trainer = told("fit", "--help.trainer")
    assert "--trainer.max_steps" in trainer
    assert "--model.leak" not in trainer
    assert "--model.leak" in told("fit", "--help.model")
    everything = told("predict", "--help.all")
    assert all(f"--{flag}" in everything for flag in ("trainer.max_steps", "model.leak", "data", "output"))


def test_help_on_a_class(told):
    assert "n_features" in told("fit", "--model.target.help", "ToyModelOfSuperposition")


def test_configs_lists_every_shipped_one_with_what_it_is(told):
    lines = told("configs").splitlines()
    assert {line.split()[0] for line in lines} >= {"base.yaml", "tms.yaml", "paper/tms_5-2.yaml"}
    assert all(len(line.split("  ", 1)[1].strip()) > 10 for line in lines)
    assert not [line for line in lines if line.startswith("sweeps/")]
    assert all(
        isinstance(yaml.safe_load((shipped.shipped_configs() / line.split()[0]).read_text()), dict) for line in lines
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# A model of 5.2 parts. More.\na: 1", "A model of 5.2 parts."),
        ("# One line\n# and another: end.\n", "One line and another: end."),
        ("a: 1\n# late", ""),
    ],
)
def test_the_first_sentence_of_a_comment(text, sentence):
    assert shipped.first_sentence(text) == sentence


def test_quick_answers_import_neither_torch_nor_lightning():
    for module in QUICK:
        for node in ast.walk(ast.parse((ROOM / f"{module}.py").read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                ours = name == "spd_lightning.errors" or name.removeprefix("spd_lightning.cli.") in QUICK
                assert ours or name.split(".")[0] in sys.stdlib_module_names, name
