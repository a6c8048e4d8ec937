"""What the pages under docs say of names, messages and each other still holds."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import spd_lightning
from benchmarks.rooms import ROOMS, imports, reduced
from spd_lightning import callbacks, methods

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _read(name):
    return (ROOT / "docs" / name).read_text()


def _anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), link
        assert not anchor or anchor in _anchors(there), link


def _spoken(room):
    """What the sources of a room say in strings, ``…`` for what is filled in."""
    for path in sorted((ROOT / "spd_lightning" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_message_of_the_check_is_one():
    spoken = list(_spoken("model"))
    table = _read("networks.md").partition("## What the check before the first step refuses")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]

    assert len(messages) >= 20
    for message in messages:
        assert any(message in text for text in spoken), message


def test_every_message_about_language_models_is_one():
    spoken = [*_spoken("data"), *_spoken("targets"), *_spoken("methods")]
    table = _read("language-models.md").partition("## What is refused")[2]
    messages = [row.split("|")[1].strip(" `") for row in table.splitlines() if row.startswith("| `")]

    assert len(messages) >= 8
    for message in messages:
        assert any(message in text for text in spoken), message


def test_the_picture_of_the_rooms_has_all_of_them():
    arrows = imports()

    assert set(arrows) == set(ROOMS)
    assert set(re.findall(r"^\| `(\w+)` \|", _read("architecture.md"), re.MULTILINE)) == set(ROOMS)
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


GIVEN = {"n_components", "d_in", "seed"}
"""Arguments that nobody writes into a config."""


def _arguments(cls):
    return [name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs", "self", "sites")]


def _named(page):
    """Words in back-ticks."""
    return {word for quoted in re.findall(r"`([^`\n]+)`", page) for word in re.findall(r"\w+", quoted)}


CONFIGURED = [methods.StochasticDecomposition, methods.Optimization, methods.Warmup, methods.Merging, methods.Speed]


@pytest.mark.parametrize("cls", CONFIGURED)
def test_the_reference_of_configs_has_every_argument(cls):
    assert set(_arguments(cls)) <= _named(_read("configs.md"))


def test_the_reference_of_configs_has_every_class_and_its_arguments():
    bases = {"EvaluationCallback", "ImportanceFunction", "SiteFunction", "TargetCall", "Loss", "Site", "Grouping"}
    models = {
        "decompose",
        "untuned_losses",
        "AttributedModel",
        "DecomposedModel",
        "SiteMask",
        "UsageError",
        "Optimization",
        "Warmup",
        "Merging",
        "Speed",
    }
    classes = [getattr(spd_lightning, name) for name in set(spd_lightning.__all__) - bases - models]
    classes += [getattr(callbacks, name) for name in set(callbacks.__all__) - bases]
    named = _named(_read("configs.md")) | _named(_read("losses.md")) | _named(_read("apd.md"))

    missing = {cls.__name__: ({cls.__name__, *_arguments(cls)} - GIVEN) - named for cls in classes}
    assert not {name: words for name, words in missing.items() if words}
