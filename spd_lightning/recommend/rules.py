"""The rules that proposals follow: from what was measured to numbers."""

import math
from collections.abc import Mapping
from functools import partial

from spd_lightning.methods.default_recipe import STEPS as TESTED
from spd_lightning.model import SiteTransformer
from spd_lightning.model.decomposed import ImportanceFactory
from spd_lightning.recommend.measures import NetworkMeasure

SPARE = 4
"""Components for each feature or dimension, whichever are more: without spare ones, features end up sharing them."""
FEWEST = 10
"""Features that a site is taken to have at least."""
PER_COMPONENT = 4
"""Positions that are not empty, for every component, in a batch."""
BATCHES = (16, 4096)
"""Smallest and largest batch that is proposed, in examples."""
SHARE = 4
"""A batch holds at most one example in so many."""
SEEN = 32_000
"""Positions that are not empty, for every component, in a whole training."""
STEPS = (TESTED, 6000)
"""Fewest and most steps that are proposed."""
PASSES = 500
"""Most passes through the examples."""
WIDTHS = (64, 512)
"""Smallest and largest stream of a transformer that predicts importances."""


def components_for(rank: int, features: int, spare: int = SPARE) -> int:
    """Number of components ``C`` of a site (ours): four times its rank or, if more, the features that reach it.

    Args:
        rank: of the site's weight.
        features: estimate of how many reach it.
        spare: components for each of them.

    Returns:
        ``spare * max(rank, features, 10)``.
    """
    return spare * max(rank, features, FEWEST)


def batch_for(network: NetworkMeasure, components: Mapping[str, int], examples: int | None = None) -> int:
    """Examples of a step: a power of two that gives every component four positions that are not empty (ours).

    Args:
        network: what was measured of it.
        components: ``C`` by site.
        examples: how many the data holds; ``None`` where it has no end.

    Returns:
        Between 16 and 4096, and at most a quarter of the examples.
    """
    needed = PER_COMPONENT / scarcest(network, components)[1]
    batch = 1 << max(math.ceil(math.log2(needed)), 0)
    most = BATCHES[1] if examples is None else max(min(BATCHES[1], power_of_two(examples / SHARE)), 1)
    return min(max(batch, BATCHES[0]), most)


def steps_for(network: NetworkMeasure, components: Mapping[str, int], batch: int, examples: int | None = None) -> int:
    """Steps of training: until every component has had 32 000 positions that are not empty (ours).

    Args:
        network: what was measured of it.
        components: ``C`` by site.
        batch: examples of a step.
        examples: how many the data holds; ``None`` where it has no end.

    Returns:
        A multiple of 100 between 4000 and 6000; above 4000, at most about 500 passes through the examples.
    """
    needed = SEEN / (batch * scarcest(network, components)[1])
    most = STEPS[1] if examples is None else min(STEPS[1], PASSES * examples / batch)
    return 100 * round(max(min(needed, most), STEPS[0]) / 100)


def scarcest(network: NetworkMeasure, components: Mapping[str, int]) -> tuple[str, float]:
    """The site with the fewest positions that are not empty for each component, and how many these are per example."""
    filled = {name: site.reached.filled for name, site in network.sites.items()}
    shares = {name: filled[name] / count for name, count in components.items() if filled[name] > 0}
    name = min(shares, key=lambda name: shares[name])
    return name, shares[name]


def power_of_two(number: float) -> int:
    """The largest power of two that is not above a number of at least 1; else 0."""
    return 1 << math.floor(math.log2(number)) if number >= 1 else 0


def importance_for(network: NetworkMeasure) -> tuple[ImportanceFactory | None, str]:
    """What predicts importances, and why.

    Args:
        network: what was measured of it.

    Returns:
        What builds the function, ``None`` for that of the default recipe, and a ground in words.
    """
    if any(site.reached.spread for site in network.sites.values()) and not network.convolves:
        widest = max(max(site.shape) for site in network.sites.values())
        width = min(max(2 ** math.ceil(math.log2(widest)), WIDTHS[0]), WIDTHS[1])
        transformer = partial(SiteTransformer, width=width)
        return transformer, "examples have positions, and what matters at one may stand at another"
    return None, "whether a component matters may depend on all that the components of its site read"
