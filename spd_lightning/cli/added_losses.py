"""What terms of a config do to those of the configs before it: ``losses:`` replaces them, ``losses+:`` adds to them."""

from pathlib import Path
from typing import Any

import yaml

from spd_lightning.errors import UsageError

GIVEN, ADDED = "losses", "losses+"


class _WithoutDates(yaml.SafeLoader):
    """Leaves what looks like a date as text, as the parser does."""


_WithoutDates.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: node.value)


def arguments_of(path: Path) -> list[str]:
    """What a config says, as arguments: the file, or what remains of it, between flags for its terms.

    Without a flag before it, the parser would leave arguments of an earlier term to one of the same name.

    Args:
        path: a config that was checked.

    Raises:
        UsageError: if there is something else than terms, or a value that is none.
    """
    text = path.read_text(encoding="utf-8-sig")
    content = _content(path, text) if GIVEN in text else {}
    model = content.get("model")
    if not isinstance(model, dict):
        return [f"--config={path}"]
    emptied = [f"--model.{GIVEN}=null"] if GIVEN in model else []
    if ADDED not in model:
        return [*emptied, f"--config={path}"]
    terms = model.pop(ADDED)
    if not isinstance(terms, dict):
        raise UsageError(f"config {str(path)!r}: model.{ADDED} must hold terms by name, got {terms!r}")
    flags = (f"--model.losses.{name}={yaml.safe_dump(term, default_flow_style=True)}" for name, term in terms.items())
    return [*emptied, f"--config={yaml.safe_dump(content)}", *flags]


def _content(path: Path, text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = yaml.load(text, _WithoutDates)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"config {str(path)!r}: {getattr(error, 'problem', None) or error}") from None
    return found
