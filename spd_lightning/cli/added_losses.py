"""``losses+:`` in a config: terms that are added to those of the configs before it, where ``losses:`` replaces them."""

from pathlib import Path
from typing import Any

import yaml

from spd_lightning.errors import UsageError

ADDED = "losses+"


def added_losses(path: Path) -> list[str]:
    """Flags that add the terms which a config holds under ``losses+``.

    Args:
        path: a config that was checked.

    Returns:
        One flag per term.

    Raises:
        UsageError: if there is something else than terms.
    """
    terms = _model(path).get(ADDED, {})
    if not isinstance(terms, dict):
        raise UsageError(f"config {str(path)!r}: model.{ADDED} must hold terms by name, got {terms!r}")
    return [f"--model.losses.{name}={yaml.safe_dump(term, default_flow_style=True)}" for name, term in terms.items()]


def without_added_losses(path: Path) -> str:
    """What remains of a config, to be read before the terms are added: its path, or its content where it has some."""
    if ADDED not in _model(path):
        return str(path)
    content = _content(path)
    del content["model"][ADDED]
    return yaml.safe_dump(content)


def _model(path: Path) -> dict[str, Any]:
    model = _content(path).get("model")
    return model if isinstance(model, dict) else {}


def _content(path: Path) -> dict[str, Any]:
    """A config that may hold added terms; nothing of any other."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        found: dict[str, Any] = yaml.safe_load(text) if ADDED in text else {}
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"config {str(path)!r}: {error.problem}") from None
    return found
