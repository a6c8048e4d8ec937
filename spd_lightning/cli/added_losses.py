"""What terms of a config do to those of the configs before it: ``losses:`` replaces them, ``losses+:`` adds to them."""

from pathlib import Path
from typing import Any

import yaml

from spd_lightning.errors import UsageError

GIVEN, ADDED = "losses", "losses+"


def arguments_of(path: Path) -> list[str]:
    """What a config says, as arguments: the file, or what remains of it, between flags for its terms.

    Without a flag before it, the parser would leave arguments of an earlier term to one of the same name.

    Args:
        path: a config that was checked.

    Raises:
        UsageError: if there is something else than terms.
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
        found: dict[str, Any] = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"config {str(path)!r}: {error.problem}") from None
    return found
