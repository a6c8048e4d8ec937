"""Which runs a table is of: entries, each of one config, and sizes that are drawn."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from benchmarks.options import ROOT
from benchmarks.seeds.draw import Draw, read_draw
from benchmarks.seeds.seed_lists import seeds_of, with_seeds
from spd_lightning.errors import UsageError
from spd_lightning.sweep.grid import SEED, value_text, yaml_of
from spd_lightning.sweep.plan import KEYS, SweepPlan, checked_name, entries, plan_from

PLAN_NAME = "plan.yaml"
SHIPPED = ROOT / "benchmarks" / "seeds" / "plans"
ENTRY_KEYS = (*KEYS, "seeds")


@dataclass(frozen=True)
class TablePlan:
    """A table, as its file states it.

    Attributes:
        name: of its folder.
        entries: each a grid whose keys end with the seed, over one config.
        draw: how further entries are drawn; ``None`` if none are.
        drawn: these entries.
    """

    name: str = ""
    entries: tuple[SweepPlan, ...] = ()
    draw: Draw | None = None
    drawn: tuple[SweepPlan, ...] = ()

    @property
    def all(self) -> tuple[SweepPlan, ...]:
        """Every entry, those of drawn sizes last."""
        return (*self.entries, *self.drawn)

    def changed(self, names: Collection[str], seeds: Sequence[str], settings: Mapping[str, str]) -> "TablePlan":
        """The same with other seeds and further settings in some of the entries.

        Args:
            names: of these entries.
            seeds: instead of each entry's own; empty for those.
            settings: dotted keys and values, which win over an entry's own.
        """

        def change(entry: SweepPlan) -> SweepPlan:
            if entry.name not in names:
                return entry
            seeded = with_seeds(entry, seeds) if seeds else entry
            return replace(seeded, settings={**entry.fixed, **settings})

        return replace(self, entries=tuple(map(change, self.entries)), drawn=tuple(map(change, self.drawn)))

    def resolved(self) -> "TablePlan":
        """The same plan with configs looked up, its keys and names checked.

        Raises:
            UsageError: naming the entry that is wrong.
        """
        if not self.all:
            raise UsageError("a table needs entries, or sizes that are drawn: see benchmarks/seeds/plans")
        names = [entry.name for entry in self.all]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"two entries are named {twice!r}; give each a name of its own")
        found = {entry.name: _resolved(entry) for entry in self.all}
        own, drawn = ([found[entry.name] for entry in part] for part in (self.entries, self.drawn))
        return TablePlan(checked_name(self.name), tuple(own), self.draw, tuple(drawn))

    def joined(self, new: "TablePlan") -> "TablePlan":
        """This plan, which a folder holds, with the entries, seeds and values of another added.

        Args:
            new: of the same name.

        Raises:
            UsageError: if an entry has another config, other settings or keys in it, or sizes are drawn otherwise.
        """
        if self.draw and new.draw and self.draw != new.draw:
            raise UsageError(f"table {self.name!r} exists with another draw ({self.draw}); choose another --name")
        if self.drawn and new.drawn and [one.name for one in self.drawn] != [one.name for one in new.drawn]:
            raise UsageError(f"table {self.name!r} exists with sizes that another version drew; choose another --name")
        own = _joined(self.entries, new.entries)
        return TablePlan(self.name, own, self.draw or new.draw, _joined(self.drawn, new.drawn))

    def text(self) -> str:
        """The plan as a file, drawn sizes written out."""
        lines = ["# Written by python -m benchmarks.seeds before the first run.", f"name: {yaml_of(self.name)}"]
        if self.draw:
            lines.append(f"draw: {self.draw}")
        for key, own in (("entries", self.entries), ("drawn", self.drawn)):
            lines += [f"{key}:"] * bool(own)
            for entry in own:
                lines += [f"{'  ' if row else '- '}{line}" for row, line in enumerate(entry.lines)]
        return "\n".join(lines) + "\n"


def find_plan(name: str) -> Path:
    """A plan by path or, failing that, by its name among the shipped ones.

    Raises:
        UsageError: if there is none.
    """
    for path in (Path(name), SHIPPED / name, SHIPPED / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.yaml")))
    raise UsageError(f"plan {name!r} does not exist; shipped plans are {shipped}")


def read_plan(path: Path) -> TablePlan:
    """Read a plan; configs are not looked up yet, and sizes are not drawn.

    Args:
        path: the file.

    Raises:
        UsageError: if it is no plan.
    """
    try:
        parts = entries(yaml.compose(path.read_text(), Loader=yaml.SafeLoader), "a plan", ("name", "draw", *_LISTS))
        own, drawn = (tuple(_entry(node) for node in _items(parts.get(key), key)) for key in _LISTS)
        name = value_text(parts["name"]) if "name" in parts else path.stem
        return TablePlan(name, own, read_draw(parts["draw"]) if "draw" in parts else None, drawn)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, UsageError) as error:
        raise UsageError(f"plan {str(path)!r}: {' '.join(str(error).split())}") from None


_LISTS = ("entries", "drawn")


def _items(node: yaml.Node | None, key: str) -> list[yaml.Node]:
    if node is not None and not isinstance(node, yaml.SequenceNode):
        raise UsageError(f"{key} must be a list")
    return [] if node is None else node.value


def _entry(node: yaml.Node) -> SweepPlan:
    parts = entries(node, "an entry", ENTRY_KEYS)
    plan = plan_from({key: value for key, value in parts.items() if key in KEYS})
    if not plan.configs:
        raise UsageError(f"entry {plan.name!r}: no config is named, for example config: tms.yaml")
    plan = replace(plan, name=plan.name or Path(plan.configs[-1]).stem)
    return with_seeds(plan, seeds_of(parts["seeds"])) if "seeds" in parts else plan


def _resolved(entry: SweepPlan) -> SweepPlan:
    try:
        checked_name(entry.name, "name")
        if SEED not in entry.keys:
            raise UsageError("seeds are missing, for example seeds: 0-2")
        entry.check_keys()
        return entry.resolved()
    except UsageError as error:
        raise UsageError(f"entry {entry.name!r}: {error}") from None


def _joined(old: Sequence[SweepPlan], new: Sequence[SweepPlan]) -> tuple[SweepPlan, ...]:
    """Entries of both, in order of the first; those of one name become one."""
    found = {entry.name: entry for entry in old}
    for entry in new:
        found[entry.name] = found[entry.name].joined(entry, "entry") if entry.name in found else entry
    return tuple(found.values())
