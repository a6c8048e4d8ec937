"""The systems whose mechanisms are known: configs that decompose them, and what the SPD paper reports on its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Published:
    """What the SPD paper (arXiv 2506.20790) reports on a system.

    Attributes:
        where: its tables and figures.
        mmcs: mean and standard deviation over seeds of its Table 1.
        ml2r: the same of ML2R.
        pearson: correlation of neuron contributions, as its figure says.
        matrix: the site that Table 1 is about.
    """

    where: str
    mmcs: tuple[float, float] | None = None
    ml2r: tuple[float, float] | None = None
    pearson: float | None = None
    matrix: str = "linear1"


@dataclass(frozen=True, eq=False)
class System:
    """A system, how it is run and what is expected of it.

    Attributes:
        name: its name, and that of its folder.
        config: as ``--config`` takes it.
        seeds: those that are run by default.
        step_ms: rough milliseconds per step of one thread, to order runs and to scale the bar; no result.
        alive: components that should be alive, by ``fnmatch`` pattern of sites.
        published: what the paper reports.
        twin: name of the same system with the paper's own settings, or without them; empty for systems of ours.
    """

    name: str
    config: str
    seeds: tuple[int, ...]
    step_ms: float
    alive: Mapping[str, int] = field(default_factory=dict)
    published: Published = Published("")
    twin: str = ""

    def expected_alive(self, site: str) -> int | None:
        """How many components of a site should be alive, if that is known."""
        return next((count for pattern, count in self.alive.items() if fnmatchcase(site, pattern)), None)


PAPER_PREFIX = "paper_"
TMS_SEEDS = (0, 1, 2, 3, 4)

_TABLE_1 = {
    "tms_5-2": Published("Table 1, figure 1", (1.000, 0.000), (0.993, 0.002)),
    "tms_5-2-id": Published("Table 1, figures 2-4", (1.000, 0.000), (0.992, 0.010)),
    "tms_40-10": Published("Table 1", (1.000, 0.000), (1.010, 0.007)),
    "tms_40-10-id": Published("Table 1", (1.000, 0.000), (1.031, 0.001)),
}
_FIGURES = {
    "residual_mlp_1": Published("figures 6-8", pearson=1.000),
    "residual_mlp_2": Published("figures 10 and 12", pearson=0.999),
    "residual_mlp_3": Published("figures 11 and 13", pearson=0.999),
}
_PUBLISHED = {**_TABLE_1, **_FIGURES}
_ALIVE = {
    "tms_5-2": {"linear*": 5},
    "tms_5-2-id": {"linear*": 5, "hidden_layers.0": 2},
    "tms_40-10": {"linear*": 40},
    "tms_40-10-id": {"linear*": 40, "hidden_layers.0": 10},
    "residual_mlp_1": {"*.mlp_in": 100, "*.mlp_out": 50},
    "residual_mlp_2": {"*.mlp_in": 100, "*.mlp_out": 25},
    "residual_mlp_3": {"*.mlp_in": 102, "*.mlp_out": 17},
}
_SEEDS = {"residual_mlp_1": (0, 1, 2), "residual_mlp_2": (0, 1, 2), "residual_mlp_3": (0, 1, 2)}
_STEP_MS = {
    "tms_5-2": (2.5, 2.5),
    "tms_5-2-id": (3.0, 3.5),
    "tms_40-10": (15.0, 30.0),
    "tms_40-10-id": (22.0, 45.0),
    "residual_mlp_1": (25.0, 18.0),
    "residual_mlp_2": (60.0, 100.0),
    "residual_mlp_3": (100.0, 260.0),
}
"""Of our settings and of the paper's."""
_CONFIGS = {"tms_5-2": "tms.yaml"}


def _ours(name: str) -> System:
    seeds = _SEEDS.get(name, TMS_SEEDS)
    config = _CONFIGS.get(name, f"{name}.yaml")
    return System(name, config, seeds, _STEP_MS[name][0], _ALIVE[name], _PUBLISHED[name], PAPER_PREFIX + name)


def _papers(name: str) -> System:
    seeds = _SEEDS.get(name, TMS_SEEDS)
    config = f"paper/{name}.yaml"
    return System(PAPER_PREFIX + name, config, seeds, _STEP_MS[name][1], _ALIVE[name], _PUBLISHED[name], name)


_CIRCUITS = (
    System("ping_pong", "ping_pong.yaml", (0, 1, 2), 20.0, {"*": 64}),
    System("induction_by_hand", "induction_by_hand.yaml", (0, 1, 2), 60.0, {"layers.0.[qk]": 7, "*": 8}),
)
"""Circuits that are written down, which the paper does not have."""

SYSTEMS = {system.name: system for system in (*map(_ours, _PUBLISHED), *_CIRCUITS, *map(_papers, _PUBLISHED))}
"""All systems by name: ours, then those with the paper's settings."""
