"""Whether a run was made with what a config says now."""

from collections.abc import Iterator, Mapping
from typing import Any

from spd_lightning.report.reading import mapping

WHOLE = ("sites", "ties", "losses")
"""Mappings that a config gives as a whole: a name that it leaves out must not be in the run either."""
ABSENT = object()


def contradiction(config: Mapping[str, Any], resolved: Mapping[str, Any]) -> str:
    """The first setting in which a run and a config differ, of those that decide what is learnt.

    Args:
        config: content of a config; what it leaves open may be anything.
        resolved: content of a run's ``config.yaml``.

    Returns:
        Key, the run's value and the config's, in words; empty if they agree.
    """
    wanted: dict[str, Any] = {name: config[name] for name in ("model", "data") if name in config}
    steps = mapping(config, "trainer").get("max_steps")
    if steps is not None:
        wanted["trainer"] = {"max_steps": steps}
    return next(_differences(wanted, resolved, ""), "")


def _differences(wanted: Any, found: Any, key: str) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for name, value in wanted.items():
            yield from _differences(value, found.get(name, ABSENT), f"{key}.{name}" if key else str(name))
        extra = [name for name in found if name not in wanted] if key.rpartition(".")[2] in WHOLE else []
        for name in extra:
            yield f"{key}.{name} in the run, not in the config"
    elif not _same(wanted, found, key):
        yield f"{key} {'missing' if found is ABSENT else _shown(found)} in the run, {_shown(wanted)} in the config"


def _same(wanted: Any, found: Any, key: str) -> bool:
    if key.endswith("class_path"):  # a config may leave the package out
        return str(wanted).rpartition(".")[2] == str(found).rpartition(".")[2]
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(_same(*pair, key) for pair in zip(wanted, found, strict=True))
    return bool(wanted == found) or _number(wanted) == _number(found) is not None


def _number(value: Any) -> float | None:
    """A number, also one that YAML reads as text, such as ``1e-3``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
