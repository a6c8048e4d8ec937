"""``losses+:`` in a config: terms that are added to those of the configs before it, where ``losses:`` replaces them."""

from pathlib import Path
from typing import Any

import yaml

from spd_lightning.errors import UsageError

ADDED = "losses+"


def arguments_of(path: Path) -> list[str]:
    """What a config says, as arguments: the file, or what remains of it followed by one flag per added term.

    Args:
        path: a config that was checked.

    Raises:
        UsageError: if there is something else than terms.
    """
    text = path.read_text(encoding="utf-8-sig")
    content = _content(path, text) if ADDED in text else {}
    model = content.get("model")
    if not isinstance(model, dict) or ADDED not in model:
        return [f"--config={path}"]
    terms = model.pop(ADDED)
    if not isinstance(terms, dict):
        raise UsageError(f"config {str(path)!r}: model.{ADDED} must hold terms by name, got {terms!r}")
    flags = (f"--model.losses.{name}={yaml.safe_dump(term, default_flow_style=True)}" for name, term in terms.items())
    return [f"--config={yaml.safe_dump(content)}", *flags]


def _content(path: Path, text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"config {str(path)!r}: {error.problem}") from None
    return found
