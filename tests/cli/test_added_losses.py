"""``losses+:`` adds terms, ``losses:`` replaces them, and what an objective leaves out is told."""

from pathlib import Path

import pytest

from spd_lightning.cli.added_losses import arguments_of
from spd_lightning.cli.command import main
from spd_lightning.errors import UsageError
from spd_lightning.losses import FrequencyMinimality

SHORT = ["--trainer.max_steps=2", "--trainer.val_check_interval=2"]


def _fit(*configs):
    cli = main(["fit", *(f"--config={name}" for name in configs), *SHORT])
    return cli.model.terms()


def test_terms_are_added_and_arguments_changed(folder):
    Path("more.yaml").write_text(
        "model:\n  losses+:\n    adversary: {class_path: Reconstruction, init_args: {sources: adversarial}}\n"
        "    importance: {init_args: {coefficient: 0.5}}\n"
    )
    terms = _fit("tiny.yaml", "more.yaml")

    assert list(terms) == ["faithfulness", "stochastic", "layerwise", "importance", "adversary"]
    assert terms["adversary"].sources == "adversarial"
    assert terms["importance"].coefficient == 0.5
    assert Path("runs/tiny/version_0/config.yaml").read_text().count("sources: adversarial") == 1


def test_what_is_replaced_is_told(folder, capsys):
    Path("less.yaml").write_text("model:\n  losses:\n    adversary: {class_path: Reconstruction}\n")
    assert list(_fit("tiny.yaml", "less.yaml")) == ["adversary"]

    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: losses: ")]
    assert ["no term keeps the sum" in line or "no term makes importances small" in line for line in told] == [True] * 2
    assert all("losses+: adds" in line for line in told)


def test_what_is_replaced_leaves_no_argument_behind(folder):
    """Of a term of the same name and class, and of another class with the same arguments."""
    Path("old.yaml").write_text(
        "model:\n  losses:\n    a: {class_path: Reconstruction, init_args: {routing: subset, samples: 3}}\n"
        "    b: {class_path: ImportanceMinimality, init_args: {coefficient: 0.5, p: 2.0}}\n"
    )
    Path("new.yaml").write_text(
        "model:\n  losses:\n    a: {class_path: Reconstruction, init_args: {samples: 2}}\n"
        "    b: {class_path: FrequencyMinimality, init_args: {reference: 8.0}}\n"
    )
    terms = _fit("tiny.yaml", "old.yaml", "new.yaml")

    assert (terms["a"].routing, terms["a"].samples) == ("all", 2)
    assert (terms["b"].coefficient, terms["b"].p) == (FrequencyMinimality().coefficient, FrequencyMinimality().p)


def test_what_looks_like_a_date_is_text(folder):
    Path("dated.yaml").write_text("model: {losses+: {a: {init_args: {note: 2024-31-12}}}, leak: 2024-01-02}\n")
    emptied, term = arguments_of(Path("dated.yaml"))
    assert emptied == "--config=model:\n  leak: '2024-01-02'\n"
    assert "2024-31-12" in term


@pytest.mark.parametrize(
    ("value", "message"),
    [("!!int x", "invalid literal for int"), ("{<<: 3}", "expected a mapping or list of mappings for")],
)
def test_a_value_that_is_none_is_told_in_one_line(value, message, folder):
    Path("bad.yaml").write_text(f"model: {{losses: {{}}}}\ndata: {value}\n")
    with pytest.raises(UsageError, match=f"^config 'bad.yaml': {message}"):
        arguments_of(Path("bad.yaml"))


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("[1]", "config 'bad.yaml': model.losses+ must hold terms by name, got [1]"),
        ("{a: {class_path: Reconstuction}}", "did you mean Reconstruction?"),
        ("{a: 3}", "model.losses"),
    ],
)
def test_what_is_no_term_is_refused(added, message, folder, refused):
    Path("bad.yaml").write_text(f"model:\n  losses+: {added}\n")

    assert message in refused("fit", "--config=bad.yaml")


def test_a_run_is_called_after_its_first_config(folder):
    text = Path("tiny.yaml").read_text()
    Path("mine.yaml").write_text(text.replace(text[text.index("  logger:") : text.index("model:")], ""))

    _fit("mine.yaml")

    assert Path("runs/mine/version_0/metrics.json").is_file()
