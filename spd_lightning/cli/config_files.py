"""Looks at a config file before it is parsed: what YAML would pass over in silence, or choke on, is refused by name."""

from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from spd_lightning.cli.near import nearest
from spd_lightning.errors import UsageError

MAX_BYTES = 2**20
MAX_VALUES = 100_000
"""Values that a config may hold once every anchor is written out."""
_KINDS = ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp")
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in _KINDS) | {"tag:yaml.org,2002:value"}
_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")
_GROUPS = ("optimization", "warmup", "merging", "speed")
_TEXT = "tag:yaml.org,2002:str"


def check_config_file(path: Path) -> None:
    """Raise unless a file is YAML that means one thing: a mapping, each key once, of bounded size.

    Args:
        path: an existing file.

    Raises:
        UsageError: in one line that names the file and, where there is one, the line in it.
    """
    config = f"config {str(path)!r}"
    root = _composed(_text(path, config), config)
    if not isinstance(root, MappingNode):
        raise UsageError(f"{config} must hold keys with values, such as model: ..., at its top level; it holds none")
    for key, _ in root.value:
        if key.tag != _TEXT:
            raise UsageError(f"{config}, {_line(key)}: keys at the top level must be names")
    try:
        _check(root, config, {}, set())
    except RecursionError:
        raise UsageError(f"{config} is nested too deeply") from None
    _check_groups(root, config)


def _text(path: Path, config: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{config} is larger than {MAX_BYTES // 2**20} MB; is it a config?")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{config} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{config} is no text in UTF-8; is it a config?") from None


def _composed(text: str, config: str) -> Node | None:
    try:
        # nodes alone: nothing is constructed, and an anchor costs the same however often it is used
        node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        return node
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{config}{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{config} is no YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise UsageError(f"{config} is nested too deeply") from None


def _check(node: Node, config: str, sizes: dict[int, int], above: set[int]) -> int:
    """Number of values in a node, its anchors written out; every node is looked at once."""
    if node.tag not in _TAGS:
        raise UsageError(f"{config}, {_line(node)}: the tag {node.tag} is not read; a config holds plain values")
    if isinstance(node, ScalarNode):
        return 1
    if id(node) in above:
        raise UsageError(f"{config}, {_line(node)}: an anchor that holds itself")
    if id(node) not in sizes:
        if isinstance(node, MappingNode):
            _check_keys(node, config)
        parts = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
        above.add(id(node))
        sizes[id(node)] = 1 + sum(_check(part, config, sizes, above) for part in parts)
        above.remove(id(node))
    if sizes[id(node)] > MAX_VALUES:
        raise UsageError(f"{config}, {_line(node)}: more than {MAX_VALUES} values once its anchors are written out")
    return sizes[id(node)]


def _check_keys(node: MappingNode, config: str) -> None:
    first: dict[str, Node] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise UsageError(f"{config}, {_line(key)}: a key must be a name, not a list or a mapping")
        if key.value in first:
            raise UsageError(
                f"{config}: {key.value!r} is given twice, {_line(first[key.value])} and {_line(key)}; keep one"
            )
        first[key.value] = key
    given = [name for name in _OF_A_CLASS if name in first]
    beside = [name for name in first if name not in _OF_A_CLASS] if given else []
    if beside:
        raise UsageError(
            f"{config}, {_line(first[beside[0]])}: {beside[0]!r} stands beside {given[0]}{_meant(beside[0])}"
        )


def _meant(name: str) -> str:
    near = nearest(name, _OF_A_CLASS)
    return f"; did you mean {near[0]}?" if near else "; arguments of a class belong under its init_args"


def _check_groups(root: MappingNode, config: str) -> None:
    """Refuse single values and lists in place of groups of settings, which the parser would fail on without a name."""
    model = next((value for key, value in root.value if key.value == "model"), None)
    for key, value in model.value if isinstance(model, MappingNode) else ():
        if key.value in _GROUPS and not isinstance(value, MappingNode):
            raise UsageError(f"{config}, {_line(key)}: model.{key.value} must hold keys with values")


def _line(node: Node) -> str:
    return f"line {node.start_mark.line + 1}"
