"""The parser's messages in our words: which name is wrong, whose it is, and what it may have meant."""

import inspect
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from spd_lightning.cli.near import FEW, nearest, suggestion

OF_A_CLASS = ("class_path", "init_args")
_KEY = re.compile(r'^(?:Parser key "(?P<key>[^"]*)"(?: element \d+)?|--(?P<help>\S+)\.help):')
_OPTION = re.compile(r"^(?:Subcommand '\w+' does not accept o|O)ption '([^']+)'(?: is not accepted)?(?: before .*)?$")
_GROUP = re.compile(r"^Group '([^']+)' does not accept option '([^']+)'$")
_FLAGS = re.compile(r"^unrecognized arguments: (.*)$", re.DOTALL)
_LINK = re.compile(r"^Call to compute_fn of link .*? failed: ", re.DOTALL)
_CLASS = re.compile(
    r"Expected a dot import path string: (?P<bare>.+)|"
    r"Problem with given class_path '(?P<path>[^']+)':\s+(?P<why>No module named .+|module .+ has no attribute .+)"
)
_ONE_OF = re.compile(r"Expected a typing\.Literal\[(.*)\]\. Got value: (.*)")
_TYPE = re.compile(r"Expected an? <class '([\w.]+)'>(?:\. Got value: (.*))?")
_GROUP_VALUE = re.compile(r"Unable to load config ([^\n]*)(?:\n.*)?", re.DOTALL)
_NO_CLASS = re.compile(r"Not a valid subclass of (\w+)\. Got value: (.*)")
_EXACT = re.compile(r" takes no '|there is no class '")
"""What says precisely what is wrong; what other types an argument could have had is of no interest beside it."""
_TOO_WIDE: tuple[Any, ...] = (Any, object, str, bool, int, float, type(None))
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def worded(parser: ArgumentParser, message: str) -> str:
    """A message of the parser with its names explained.

    Args:
        parser: which raises it; one of a class knows its arguments, one of a command its flags.
        message: as the parser words it, possibly several lines.

    Returns:
        Possibly several lines; those that say nothing beside a precise one are gone.
    """
    message = _LINK.sub("", message)
    for pattern, say in ((_FLAGS, _no_flag), (_OPTION, _no_key), (_GROUP, _no_key)):
        found = pattern.match(message)
        if found:
            return say(parser, *found.groups())
    key = _KEY.match(message)
    hint = _hint(parser, key["key"] or key["help"]) if key else None
    message = _CLASS.sub(lambda found: _no_class(found, hint), message)
    for pattern, inner in ((_ONE_OF, _one_of), (_TYPE, _typed), (_NO_CLASS, _classless), (_GROUP_VALUE, _no_group)):
        message = pattern.sub(inner, message)
    lines = (message + _form(hint)).splitlines()
    exact = [line for line in lines[1:] if _EXACT.search(line)]
    owner = owner_of(parser)
    if owner and (name := key and key["key"]):
        lines[0] = f'key "{name}" of {owner.__name__}:{lines[0][key.end() :]}'
    return "\n".join([lines[0], exact[0]] if exact else lines)


def owner_of(parser: ArgumentParser) -> type | None:
    """The class whose arguments a parser reads; ``None`` for the parser of a command."""
    return getattr(parser, "owner", None)


def classes_under(hint: Any) -> dict[str, type]:
    """Classes that an argument takes by name: those of its type and below it which can be made, by name.

    Args:
        hint: the argument's type, however nested.
    """
    if not inspect.isclass(hint) or get_origin(hint):
        return {name: one for inner in get_args(hint) for name, one in classes_under(inner).items()}
    return {one.__name__: one for one in _below(hint) if not inspect.isabstract(one) and one.__name__[0] != "_"}


def _below(base: type) -> Iterator[type]:
    seen, waiting = set(), [] if base in _TOO_WIDE else [base]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            yield one
            waiting += type.__subclasses__(one)


def _names(parser: ArgumentParser) -> set[str]:
    """Dotted names that a parser takes."""
    return {action.dest for action in parser._actions if action.option_strings and not action.dest.endswith("help")}


def _no_flag(parser: ArgumentParser, rest: str) -> str:
    words = rest.split()
    if not words:
        return "an argument is empty; leave it out, or give a value to the flag before it"
    word = next((word for word in words if word.startswith("-")), None)
    if word is None:
        return f"{words[0]!r} belongs to no flag; a config is given as --config {words[0]}"
    name = word.partition("=")[0].lstrip("-")
    if owner_of(parser):
        return _no_key(parser, name)
    return f"there is no flag {word.partition('=')[0]}{suggestion(name, _names(parser), '--')}"


def _no_key(parser: ArgumentParser, *names: str) -> str:
    name, owner, known = ".".join(names), owner_of(parser), _names(parser)
    if owner is None:
        return f"the config has no key {name!r}{suggestion(name, known)}"
    near = nearest(name, {*known, *OF_A_CLASS})
    meant = suggestion(name, {*known, *near})
    kinds = [] if known or meant else sorted(classes_under(owner).keys() - {owner.__name__})
    listed = f": {', '.join(kinds)}" * (len(kinds) <= FEW)
    return f"{owner.__name__} takes no {name!r}{meant or f'; first name a class by class_path{listed}'}"


def _hint(parser: ArgumentParser, key: str) -> Any:
    return next((getattr(action, "_typehint", None) for action in parser._actions if action.dest == key), None)


def _no_class(found: re.Match[str], hint: Any) -> str:
    name = (found["bare"] or found["path"]).strip()
    if not name.replace(".", "").isidentifier():
        return f"first name a class by class_path, got {name!r}"
    known, leaf, why = classes_under(hint), name.rpartition(".")[2], " ".join((found["why"] or "").split())
    root = known[leaf].__module__.partition(".")[0] if leaf in known else None
    lost = why.startswith("No module") and name.partition(".")[0] != root
    near = [] if lost else nearest(leaf, known)
    said = f"there is no class {name!r}{f' ({why})' * bool(why)}"
    said += f"; did you mean {' or '.join(near)}?" if near else ";" * (lost or not why)
    if not why:
        return f"{said} a class of your own needs its module, as in my_module.{name}"
    return f"{said} its file must lie in the working folder or beside a config" if lost else said


def _one_of(found: re.Match[str]) -> str:
    choices = [choice.strip("'") for choice in found[1].split(", ")]
    near = nearest(found[2], choices)
    return f"must be one of {', '.join(choices)}, got {found[2]!r}{f'; did you mean {near[0]}?' if near else ''}"


def _typed(found: re.Match[str]) -> str:
    kind = found[1]
    return f"Expected {_TYPES[kind]}, got {found[2]!r}" if kind in _TYPES and found[2] is not None else found[0]


def _form(hint: Any) -> str:
    """How a mapping of names to numbers is written, where one is wanted."""
    return "; give a number for each name, as in {NAME: 8}" if get_args(hint) == (str, int) else ""


def _no_group(found: re.Match[str]) -> str:
    return f"must hold keys with values, got {found[1]}"


def _classless(found: re.Match[str]) -> str:
    return f"a {found[1]} is named by class_path, its arguments stand under init_args; got {found[2]}"
