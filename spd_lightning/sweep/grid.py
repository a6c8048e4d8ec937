"""Keys, values and the points of a grid, as text: what a value means is the command line's business."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence

import yaml

from spd_lightning.errors import UsageError

Values = Mapping[str, Sequence[str]]
"""Values to take, by dotted key."""

Point = Mapping[str, str]
"""One value per dotted key."""

SEED = "seed_everything"
LONGEST_NAME = 120
_UNSAFE = re.compile(r"[^A-Za-z0-9.+_=-]+")
_KEY = re.compile(r"[A-Za-z_][\w*-]*(\.[\w*-]+)*\+?")


def read_assignment(text: str, flag: str) -> tuple[str, str]:
    """Split ``key=value``.

    Args:
        text: what follows the flag.
        flag: its name, for messages.

    Raises:
        UsageError: if there is no ``=`` or the key is not a dotted name.
    """
    key, separator, value = text.partition("=")
    if not separator or not _KEY.fullmatch(key):
        raise UsageError(f"{flag} must be KEY=VALUE with a dotted key such as model.optimization.lr, got {text!r}")
    return key, value


def read_assignments(texts: Sequence[str], flag: str) -> dict[str, str]:
    """Split several ``key=value``; see :func:`read_assignment`.

    Args:
        texts: what follows the flag.
        flag: its name, for messages.

    Raises:
        UsageError: also if a key is given twice.
    """
    found: dict[str, str] = {}
    for key, value in (read_assignment(text, flag) for text in texts):
        if key in found:
            raise UsageError(f"{flag}: {key} is given twice; name each key once")
        found[key] = value
    return found


def read_values(key: str, text: str) -> list[str]:
    """Values separated by commas, each a number, a word, or a list or mapping in YAML's short form.

    Args:
        key: what the values are for, for messages.
        text: for example ``1e-3,3e-3`` or ``[8],[16, 16]``.

    Raises:
        UsageError: if there is no value, one is given twice, or the text is not YAML.
    """
    try:
        node = yaml.compose(f"[{text}]", Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        raise UsageError(f"{key}: values must be separated by commas, lists in brackets, got {text!r}") from None
    assert isinstance(node, yaml.SequenceNode)
    return checked_values(key, node)


def checked_values(key: str, node: yaml.Node) -> list[str]:
    """The items of a YAML list as texts, none of them equal to another.

    Args:
        key: what the values are for, for messages.
        node: the list.

    Raises:
        UsageError: if it is not a list, is empty, or holds a value twice.
    """
    if not isinstance(node, yaml.SequenceNode):
        raise UsageError(f"{key}: must be a list of values, got {value_text(node)}")
    values = [value_text(item) for item in node.value]
    if not values:
        raise UsageError(f"{key}: the list of values is empty; name at least one")
    seen: dict[str, str] = {}
    for value in values:
        if meaning(value) in seen:
            raise UsageError(f"{key}: values must differ, got {seen[meaning(value)]} and {value}")
        seen[meaning(value)] = value
    return values


def value_text(node: yaml.Node) -> str:
    """A value as it would be typed behind ``--key=``; numbers keep the form in which they were written."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    content = yaml.safe_load(yaml.serialize(node, Dumper=yaml.SafeDumper))
    dumped = yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=float("inf"))
    return str(dumped).strip()


def yaml_of(value: str) -> str:
    """Text that a YAML list reads back as the same value."""
    try:
        node = yaml.compose(f"[{value}]", Loader=yaml.SafeLoader)
        items = [value_text(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else []
    except yaml.YAMLError:
        items = []
    return value if items == [value] else json.dumps(value)


def meaning(value: str) -> str:
    """A form that is the same for ``1e-3`` and ``0.001``, to find what is given twice."""
    try:
        return repr(float(value))
    except ValueError:
        return value.strip()


def expand(over: Values) -> list[Point]:
    """All points of a grid; the last key varies fastest.

    Args:
        over: values by dotted key.

    Returns:
        One mapping of key to value per point.
    """
    return [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The ends of dotted keys, two words long where that tells them apart, longer where it does not.

    Args:
        keys: dotted keys, all different.

    Returns:
        A short name per key.
    """
    parts = {key: [part for part in key.split(".") if part != "init_args"] for key in keys}
    length = 2
    while True:
        short = {key: ".".join(words[-length:]) for key, words in parts.items()}
        if len(set(short.values())) == len(keys):
            return short
        if length >= max(map(len, parts.values())):
            return {key: key for key in keys}
        length += 1


def run_names(points: Sequence[Point]) -> list[str]:
    """A readable name for every point, safe as the name of a folder.

    A name depends on nothing but its own and earlier points, so that points can be added later.

    Args:
        points: with the same keys in the same order.

    Returns:
        For example ``importance.coefficient=1e-3,seed_everything=0``.
    """
    names: list[str] = []
    taken: set[str] = set()
    for point in points:
        name = _name(point)
        if name.casefold() in taken:
            name = f"{name}-{_digest(point)}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _name(point: Point) -> str:
    short = short_keys(list(point))
    name = ",".join(f"{_safe(short[key])}={_safe(value)}" for key, value in point.items())
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 9]}-{_digest(point)}"
    return name


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text).strip("_") if _UNSAFE.search(text) else text


def _digest(point: Point) -> str:
    return hashlib.sha256(json.dumps(list(point.items())).encode()).hexdigest()[:8]
