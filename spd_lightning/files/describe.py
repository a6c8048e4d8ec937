"""Objects as plain data: ``class_path`` and ``init_args``, the form they have in a YAML file."""

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from torch import nn

from spd_lightning.errors import UsageError


def class_path(cls: type) -> str:
    """Import path of a class, the short one where its package exports it by name."""
    package = cls.__module__.partition(".")[0]
    if getattr(sys.modules.get(package), cls.__qualname__, None) is cls:
        return f"{package}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def init_args(obj: object, skip: Collection[str] = ()) -> dict[str, Any]:
    """Constructor arguments of an object, read from the attributes that carry their names.

    Args:
        obj: an instance whose class keeps every constructor argument as an attribute of the same name.
        skip: arguments to leave out.

    Returns:
        Plain data by argument name. Arguments without an attribute are left out.
    """
    names = [name for name in inspect.signature(type(obj)).parameters if name not in skip]
    return {name: plain(getattr(obj, name)) for name in names if hasattr(obj, name)}


def describe(obj: object) -> dict[str, Any]:
    """An object as ``{"class_path": ..., "init_args": ...}``.

    Arguments that its class lists as ``given_by_caller`` are not hyper-parameters and are left out.
    """
    return {"class_path": class_path(type(obj)), "init_args": init_args(obj, getattr(obj, "given_by_caller", ()))}


def check_kept(obj: object, what: str) -> None:
    """Raise a :class:`UsageError` unless an object keeps every constructor argument, so that :func:`describe` has it.

    Args:
        obj: an instance of a class that promises to.
        what: names it in the message.
    """
    given = getattr(obj, "given_by_caller", ())
    for name, parameter in inspect.signature(type(obj)).parameters.items():
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if named and name not in given and not hasattr(obj, name):
            raise UsageError(
                f"{what}: {type(obj).__name__} must keep its argument {name!r} for checkpoints: set self.{name} in "
                "__init__"
            )


def class_of(described: Any, kind: type, what: str) -> type[Any]:
    """The class that a description names, if it is imported already. Nothing is imported by name.

    Args:
        described: as :func:`describe` gives it; from anybody.
        kind: what the class must be.
        what: names the description in messages.

    Returns:
        The class.

    Raises:
        UsageError: if it names none, or one that is not imported, or is no such class.
    """
    path = described.get("class_path") if isinstance(described, dict) else None
    if not isinstance(path, str) or not isinstance(described.get("init_args", {}), dict):
        raise UsageError(f"{what} is damaged: it names no class")
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if not isinstance(found, type) or not issubclass(found, kind):
        raise UsageError(
            f"{what} is {path[:200]!r}, which is no imported {kind.__name__}; if you trust the file, import it "
            "first or pass import_classes=True; or pass an object in its place"
        )
    return found


def import_named(config: Any, origin: str) -> None:
    """Import every module that holds a class named in plain data; only for data that the caller trusts.

    Args:
        config: dictionaries and lists; classes are the values of ``class_path``, or of a list ``kinds``.
        origin: the file's name, for the message.

    Raises:
        UsageError: if a module cannot be imported.
    """
    for path in _class_paths(config):
        module = path.rpartition(".")[0]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"{origin}: names {path!r}, but {module!r} cannot be imported ({error})") from None


def _class_paths(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        named = [config.get("class_path"), *(config["kinds"] if isinstance(config.get("kinds"), list) else [])]
        yield from (path for path in named if isinstance(path, str) and "." in path)
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from _class_paths(item)


def rebuilt(described: Any, kind: type, what: str, nested: type = nn.Module) -> Any:
    """An object from its description, nested ones included; see :func:`class_of`."""
    return factory(described, kind, what, nested)()


def factory(described: Any, kind: type, what: str, nested: type = nn.Module) -> Callable[..., Any]:
    """What builds an object from its description once the caller's own arguments are given.

    Args:
        described: as :func:`describe` gives it; from anybody.
        kind: what its class must be.
        what: names the description in messages.
        nested: what the classes of descriptions among its arguments must be. Of classes in general some run a command
            when they are built.

    Raises:
        UsageError: as :func:`class_of` does, and for an argument that its class does not take.
    """
    cls: Any = class_of(described, kind, what)
    arguments = _arguments(described, what, nested)
    _check_taken(cls, arguments, what)
    return partial(cls, **arguments)


def _check_taken(cls: type, arguments: dict[str, Any], what: str) -> None:
    """Versions differ in what a class takes; files from another one are refused in words."""
    taken = inspect.signature(cls).parameters
    unknown = [name for name in arguments if name not in taken]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        raise UsageError(
            f"{what}: {class_path(cls)} takes no {unknown[0]!r}; it is damaged, or another version wrote it"
        )


def _arguments(described: Any, what: str, nested: type) -> dict[str, Any]:
    """Hyper-parameters; a nested description becomes an object, or what builds one where a caller's part is missing."""
    arguments: dict[str, Any] = dict(described.get("init_args", {}))
    for name, value in arguments.items():
        if isinstance(value, dict) and "class_path" in value:
            build = factory(value, nested, f"{what}.{name}", nested)
            arguments[name] = build if given_by_caller(value, nested) else build()
    return arguments


def given_by_caller(described: Any, kind: type = nn.Module) -> bool:
    """Whether the class that a description names is given arguments by its caller that are not hyper-parameters."""
    return bool(getattr(class_of(described, kind, "what is described"), "given_by_caller", ()))


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
    if isinstance(value, type):
        return class_path(value)
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return describe(value)
