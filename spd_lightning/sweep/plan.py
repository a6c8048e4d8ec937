"""What a sweep is to do: which configs, which settings for all runs, which points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from spd_lightning.cli.arguments import find_config, shipped_configs
from spd_lightning.errors import UsageError
from spd_lightning.sweep.grid import Point, Values, checked_values, expand, meaning, run_names, value_text, yaml_of

KEYS = ("name", "config", "set", "over")
PLAN_NAME = "sweep.yaml"


@dataclass(frozen=True)
class SweepPlan:
    """A sweep, as its file states it.

    Attributes:
        configs: what ``--config`` is given: names of shipped configs, or paths.
        settings: dotted keys and values that hold for every run.
        grids: values by swept key; the sweep is the union of these grids, all over the same keys.
        name: of the sweep's folder; empty if it is not said.
    """

    configs: tuple[str, ...] = ()
    settings: Mapping[str, str] | None = None
    grids: tuple[Values, ...] = ()
    name: str = ""

    @property
    def keys(self) -> list[str]:
        """The swept keys, in order."""
        return list(self.grids[0]) if self.grids else []

    @property
    def fixed(self) -> Mapping[str, str]:
        """Settings of every run."""
        return self.settings or {}

    @property
    def points(self) -> list[Point]:
        """The points of all grids, each once, in order."""
        found: dict[tuple[str, ...], Point] = {}
        for grid in self.grids:
            for point in expand({key: grid[key] for key in self.keys}):
                found.setdefault(tuple(map(meaning, point.values())), point)
        return list(found.values())

    @property
    def named_points(self) -> dict[str, Point]:
        """Points by the name of their run directory."""
        points = self.points
        return dict(zip(run_names(points), points, strict=True))

    @property
    def config_paths(self) -> tuple[str, ...]:
        """The configs as paths that hold in any working directory."""
        return tuple(str(shipped_configs() / name) for name in self.configs)

    def resolved(self) -> "SweepPlan":
        """The same plan with configs looked up: shipped ones by name, others as absolute paths."""
        return replace(self, configs=tuple(_lasting(name) for name in self.configs))

    def text(self) -> str:
        """The plan as a sweep file."""
        return "\n".join(
            ["# Written by python -m spd_lightning.sweep, which also takes it as --sweep.", *self.lines, ""]
        )

    @property
    def lines(self) -> list[str]:
        """The plan as lines of YAML."""
        lines = [f"name: {yaml_of(self.name)}", f"config: [{', '.join(map(yaml_of, self.configs))}]"]
        if self.fixed:
            lines += ["set:", *(f"  {key}: {yaml_of(value)}" for key, value in self.fixed.items())]
        lines.append("over:")
        for grid in self.grids:
            rows = [f"{key}: [{', '.join(map(yaml_of, grid[key]))}]" for key in self.keys]
            lines += [f"{'- ' if row == 0 else '  '}{text}" for row, text in enumerate(rows)]
        return lines

    def check_keys(self) -> None:
        """Raise a :class:`UsageError` for a key that is both set and swept, or one that adds to a list."""
        for key in self.keys:
            if key in self.fixed:
                raise UsageError(f"{key} is both set and swept; name it once")
            if key.endswith("+"):
                raise UsageError(f"{key} adds to a list and cannot be swept; sweep the whole list")

    def joined(self, new: "SweepPlan", what: str = "sweep") -> "SweepPlan":
        """This plan with the points of another added.

        Args:
            new: of the same name.
            what: what it is called in messages.

        Returns:
            The union; this very plan if nothing is new.

        Raises:
            UsageError: if configs, settings or swept keys differ.
        """
        kept = f"{what} {self.name!r} exists with another"
        if self.configs != new.configs:
            raise UsageError(f"{kept} config ({', '.join(self.configs)}); choose another --name")
        if _meanings(self.fixed) != _meanings(new.fixed):
            settings = " ".join(f"{key}={value}" for key, value in self.fixed.items()) or "none"
            raise UsageError(f"{kept} --set ({settings}); choose another --name")
        if set(self.keys) != set(new.keys):
            raise UsageError(f"{kept} set of swept keys ({', '.join(self.keys)}); choose another --name")
        both = replace(self, grids=(*self.grids, *new.grids))
        return both if len(both.points) > len(self.points) else self


def checked_name(name: str, flag: str = "--name") -> str:
    """A name, if it can be that of a folder.

    Args:
        name: the name.
        flag: where it was given, for the message.

    Raises:
        UsageError: if it cannot.
    """
    allowed = name and name[0].isalnum() and all(letter.isalnum() or letter in "._+=,-" for letter in name)
    if not allowed or not name.isascii():
        raise UsageError(f"{flag} must start with a letter or digit, then also . _ + = , and -, got {name!r}")
    return name


def read_plan(path: Path) -> SweepPlan:
    """Read a sweep file.

    Args:
        path: the file.

    Returns:
        What it states; configs are not looked up yet.

    Raises:
        UsageError: if it is not a sweep file.
    """
    try:
        node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
        return plan_from(entries(node, "a sweep file", KEYS))
    except (yaml.YAMLError, OSError, UnicodeDecodeError, UsageError) as error:
        raise UsageError(f"sweep file {str(path)!r}: {' '.join(str(error).split())}") from None


def plan_from(nodes: Mapping[str, yaml.Node]) -> SweepPlan:
    """A plan from the parts of its file.

    Args:
        nodes: values of some of :data:`KEYS`.

    Raises:
        UsageError: if one of them does not have its form.
    """
    return SweepPlan(
        configs=_configs(nodes.get("config")),
        settings={key: value_text(value) for key, value in entries(nodes.get("set"), "set").items()},
        grids=_grids(nodes.get("over")),
        name=value_text(nodes["name"]) if "name" in nodes else "",
    )


def entries(node: yaml.Node | None, what: str, keys: Sequence[str] = ()) -> dict[str, yaml.Node]:
    """A mapping of YAML, its keys as text.

    Args:
        node: the mapping; ``None`` for an empty one.
        what: what it is, for messages.
        keys: those that it may have; empty for any.

    Raises:
        UsageError: if it is not a mapping, holds a key twice, or one that it may not have.
    """
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{what} must be a mapping of keys to values")
    names = [value_text(key) for key, _ in node.value]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{what} holds {twice!r} twice")
    unknown = sorted(set(names) - set(keys)) if keys else []
    if unknown:
        raise UsageError(f"unknown key {unknown[0]!r}; {what} has the keys {', '.join(keys)}")
    return dict(zip(names, (value for _, value in node.value), strict=True))


def _configs(node: yaml.Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    return tuple(value_text(item) for item in (node.value if isinstance(node, yaml.SequenceNode) else [node]))


def _grids(node: yaml.Node | None) -> tuple[Values, ...]:
    """A mapping of keys to lists of values, or a list of such mappings over the same keys."""
    nodes: Sequence[yaml.Node | None] = node.value if isinstance(node, yaml.SequenceNode) else [node]
    grids = [entries(item, "over") for item in nodes]
    if any(set(grid) != set(grids[0]) for grid in grids):
        raise UsageError("all entries of over must sweep the same keys")
    if not grids or not grids[0]:
        return ()
    return tuple({key: checked_values(key, values) for key, values in grid.items()} for grid in grids)


def _lasting(name: str) -> str:
    path = find_config(name).resolve()
    shipped = shipped_configs().resolve()
    return str(path.relative_to(shipped)) if shipped in path.parents else str(path)


def _meanings(settings: Mapping[str, str]) -> dict[str, str]:
    return {key: meaning(value) for key, value in settings.items()}
