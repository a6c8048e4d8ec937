"""Objects as plain data: ``class_path`` and ``init_args``, the form they have in a YAML file."""

import dataclasses
import functools
import inspect
from typing import Any


def class_path(cls: type) -> str:
    """Full import path of a class."""
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
        value: a plain value, a container, a dataclass, a class, a ``functools.partial`` of one, or an object
            that :func:`describe` can read.

    Returns:
        ``None``, bool, int, float, str, or lists and dicts of them.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, type):
        return {"class_path": class_path(value)}
    if isinstance(value, functools.partial):
        return {"class_path": class_path(value.func), "init_args": plain(value.keywords)}  # type: ignore[arg-type]
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return describe(value)
