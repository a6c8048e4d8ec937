"""Objects as plain data: ``class_path`` and ``init_args``, the form they have in a YAML file."""

import dataclasses
import inspect
import sys
from typing import Any


def class_path(cls: type) -> str:
    """Import path of a class, the short one where its package exports it by name."""
    package = cls.__module__.partition(".")[0]
    if getattr(sys.modules.get(package), cls.__qualname__, None) is cls:
        return f"{package}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def init_args(obj: object, skip: frozenset[str] | set[str] = frozenset()) -> dict[str, Any]:
    """Constructor arguments of an object, read from the attributes that carry their names.

    Args:
        obj: an instance whose class keeps every constructor argument as an attribute of the same name.
        skip: arguments to leave out.

    Returns:
        Plain data by argument name. Arguments without an attribute are left out.
    """
    names = [name for name in inspect.signature(type(obj)).parameters if name not in skip]
    return {name: plain(getattr(obj, name)) for name in names if hasattr(obj, name)}


def describe(obj: object, skip: frozenset[str] | set[str] = frozenset()) -> dict[str, Any]:
    """An object as ``{"class_path": ..., "init_args": ...}``."""
    return {"class_path": class_path(type(obj)), "init_args": init_args(obj, skip)}


def plain(value: Any) -> Any:
    """Turn a constructor argument into JSON types.

    Args:
        value: a plain value, a container, a dataclass, or an object that :func:`describe` can read.

    Returns:
        ``None``, bool, int, float, str, or lists and dicts of them.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return describe(value)
