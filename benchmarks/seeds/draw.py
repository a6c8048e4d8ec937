"""Sizes that nobody has looked at: drawn from a seeded list."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import yaml

from benchmarks.seeds.seed_lists import seeds_of, with_seeds
from spd_lightning.errors import UsageError
from spd_lightning.functional import keyed_generator
from spd_lightning.sweep.grid import value_text, yaml_of
from spd_lightning.sweep.plan import SweepPlan, entries

FEATURES, DIMENSIONS = (4, 60), (2, 15)
"""Of toy models of superposition."""
MOST_PER_DIMENSION, MOST_IN_TWO = 4, 5
NEURONS, LAYERS = (15, 60), (1, 3)
"""Of residual MLPs: neurons of all layers together, and layers."""
PER_NEURON, WIDTH_PER_FEATURE = 2, 10
KINDS = ("tms", "tms_id", "tms", "residual_mlp")
"""Drawn in turn."""
CONFIGS = {"tms": "tms_40-10.yaml", "tms_id": "tms_40-10-id.yaml", "residual_mlp": "residual_mlp_1.yaml"}
SEEN = (
    "tms_5-2",
    "tms_40-10",
    "tms_5-2-id",
    "tms_20-8-id",
    "tms_29-14-id",
    "tms_33-14-id",
    "tms_39-12-id",
    "tms_40-10-id",
    "tms_40-12-id",
    "residual_mlp_1_15",
    "residual_mlp_1_17",
    "residual_mlp_1_18",
    "residual_mlp_1_50",
    "residual_mlp_2_14",
    "residual_mlp_2_18",
    "residual_mlp_2_20",
    "residual_mlp_2_23",
    "residual_mlp_2_24",
    "residual_mlp_2_25",
    "residual_mlp_2_30",
    "residual_mlp_3_9",
    "residual_mlp_3_10",
    "residual_mlp_3_13",
    "residual_mlp_3_15",
    "residual_mlp_3_17",
)
"""Sizes that recipes were searched with, or changed for."""
MOST = 1000
RECIPE = "default.yaml"
_KEYS = ("count", "seed", "seeds", "recipe", *CONFIGS)
RULE = (
    "Of four sizes, three are toy models of superposition, one of them with an identity layer, and one is a residual "
    f"MLP. Toy models take {FEATURES[0]} to {FEATURES[1]} features in {DIMENSIONS[0]} to {DIMENSIONS[1]} dimensions, "
    f"fewer dimensions than features, and at most {MOST_PER_DIMENSION} features per dimension as in 40-10, in two "
    f"dimensions at most {MOST_IN_TWO}: with more, the trained target itself drops features or mixes them up. "
    f"Residual MLPs have {LAYERS[0]} to {LAYERS[1]} layers and about {NEURONS[0]} to {NEURONS[1]} neurons in all, "
    f"{PER_NEURON} features for each, and a stream {WIDTH_PER_FEATURE} times as wide as there are features, as in the "
    "paper. Every size is drawn once, and none that recipes were searched with."
)
"""In words, for the table."""


@dataclass(frozen=True)
class Draw:
    """How sizes are drawn.

    Attributes:
        count: how many.
        seed: of the draw.
        seeds: of the runs of each.
        configs: the config of each kind.
        recipe: the config that is put after it; none if empty.
    """

    count: int
    seed: int
    seeds: tuple[str, ...] = field(default=("0", "1", "2"), compare=False)
    configs: Mapping[str, str] = field(default_factory=lambda: dict(CONFIGS))
    recipe: str = RECIPE

    def __str__(self) -> str:
        """As a plan has it."""
        configs = "".join(f", {kind}: {yaml_of(config)}" for kind, config in self.configs.items())
        recipe = f", recipe: {yaml_of(self.recipe)}"
        return f"{{count: {self.count}, seed: {self.seed}, seeds: [{', '.join(self.seeds)}]{configs}{recipe}}}"

    def resolved(self) -> "Draw":
        """The same with configs looked up, as those of entries are."""
        lasting = SweepPlan(tuple(self.configs.values())).resolved().configs
        recipe = "".join(SweepPlan((self.recipe,) if self.recipe else ()).resolved().configs)
        return replace(self, configs=dict(zip(self.configs, lasting, strict=True)), recipe=recipe)

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """The configs of a kind of network, in order."""
        return (self.configs[kind], self.recipe) if self.recipe else (self.configs[kind],)


def read_draw(node: yaml.Node) -> Draw:
    """A draw as a plan has it.

    Args:
        node: a mapping with ``count`` and ``seed``; ``seeds`` of the runs, the configs of kinds and the recipe have
            defaults.

    Raises:
        UsageError: if something is missing, unknown or out of range.
    """
    parts = entries(node, "draw", _KEYS)
    count, seed = (whole(f"draw: {key}", value_text(parts[key]) if key in parts else "") for key in ("count", "seed"))
    given = {"seeds": tuple(seeds_of(parts["seeds"]))} if "seeds" in parts else {}
    configs = CONFIGS | {kind: value_text(parts[kind]) for kind in CONFIGS if kind in parts}
    recipe = value_text(parts["recipe"]) if "recipe" in parts else RECIPE
    return Draw(count, seed, configs=configs, recipe="" if recipe == "null" else recipe, **given)


def whole(what: str, text: str) -> int:
    """A number of sizes or a seed of a draw.

    Raises:
        UsageError: if it is none, or draws more sizes than there are in the list.
    """
    most = MOST if what.endswith(("count", "--draw")) else 2**32 - 1
    if not text.isdecimal() or int(text) > most:
        raise UsageError(f"{what} must be a whole number up to {most}, got {text!r}")
    return int(text)


def n_components(inputs: int, rank: int, as_a_whole: bool) -> int:
    """How many components a site gets, by the sizes of the network alone.

    Args:
        inputs: of the network.
        rank: of the site.
        as_a_whole: whether the site acts as one, as square hidden layers and what writes to the stream do; the others
            embed inputs or read them, each by a component of its own.

    Returns:
        Four times the rank, or four times the inputs and at least 40.
    """
    return 4 * rank if as_a_whole else max(40, 4 * inputs)


def drawn_entries(draw: Draw) -> tuple[SweepPlan, ...]:
    """The sizes of a draw; a longer one with the same seed begins with them.

    Args:
        draw: how many, from which seed.

    Returns:
        An entry for each.

    Raises:
        UsageError: if there are not so many.
    """
    generator = keyed_generator("sizes", draw.seed)
    found: dict[str, SweepPlan] = {}
    for _ in range(50 * MOST):
        if len(found) == draw.count:
            return tuple(with_seeds(entry, draw.seeds) for entry in found.values())
        kind = KINDS[len(found) % len(KINDS)]
        size = _residual_mlp(generator) if kind == "residual_mlp" else _superposition(generator, kind)
        if size and size[0] not in SEEN and size[0] not in found:
            found[size[0]] = SweepPlan(draw.of_kind(kind), size[1], name=size[0])
    raise UsageError(f"draw: count must be below the number of sizes that there are, got {draw.count}")


Sized = tuple[str, dict[str, str]]
"""The name of a size, and the settings that give it to a network, its data and its sites."""


def _superposition(generator: torch.Generator, kind: str) -> Sized | None:
    """A toy model; nothing if what was drawn is no size."""
    n, m = _uniform(FEATURES, generator), _uniform(DIMENSIONS, generator)
    if m >= n or n > (MOST_IN_TWO if m == 2 else MOST_PER_DIMENSION * m):
        return None
    embedding = n_components(n, m, as_a_whole=False)
    sites = {"linear1": embedding, "linear2": embedding}
    if kind == "tms_id":
        sites["hidden_layers.0"] = n_components(n, m, as_a_whole=True)
    return f"tms_{n}-{m}{'-id' * (kind == 'tms_id')}", _settings({"n_features": n, "n_hidden": m}, sites)


def _residual_mlp(generator: torch.Generator) -> Sized:
    layers, neurons = _uniform(LAYERS, generator), _uniform(NEURONS, generator)
    width = round(neurons / layers)
    features = PER_NEURON * layers * width
    sizes = {"n_features": features, "n_layers": layers, "d_mlp": width, "d_embed": WIDTH_PER_FEATURE * features}
    sites = {
        "mlp_in": n_components(features, width, as_a_whole=False),
        "mlp_out": n_components(features, width, as_a_whole=True),
    }
    return f"residual_mlp_{layers}_{width}", _settings(sizes, {f"layers.*.{site}": C for site, C in sites.items()})


def _settings(sizes: Mapping[str, int], sites: Mapping[str, int]) -> dict[str, str]:
    """As on the command line."""
    settings = {f"model.target.{name}": str(size) for name, size in sizes.items()}
    components = ", ".join(f"{site}: {count}" for site, count in sites.items())
    return settings | {"data.n_features": str(sizes["n_features"]), "model.sites": f"{{{components}}}"}


def _uniform(ends: tuple[int, int], generator: torch.Generator) -> int:
    return int(torch.randint(ends[0], ends[1] + 1, (), generator=generator))
