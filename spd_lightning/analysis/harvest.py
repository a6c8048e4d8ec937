"""One pass over data: what each component fires on, reads and comes before, in bounded memory."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from spd_lightning.analysis.call_tally import HarvestOptions
from spd_lightning.analysis.harvest_tally import Harvest, Tally
from spd_lightning.errors import UsageError, check_fraction, check_text, check_whole
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel, DecomposedModel

PLACES, REACH, UNITS, TOKENS = 30, 20, 1 << 17, "input_ids"
"""Defaults: 30 windows of 20 tokens on either side; about 130 000 positions for clustering."""


def options(
    threshold: float = ALIVE_THRESHOLD,
    places: int = PLACES,
    reach: int = REACH,
    units: int = UNITS,
    tokens: str = TOKENS,
    batches: int | None = None,
) -> HarvestOptions:
    """Checked options; see :class:`HarvestOptions`.

    Raises:
        UsageError: for a value outside its range.
    """
    check_fraction("harvest: threshold", threshold)
    check_whole("harvest: places", places, least=1, most=1000)
    check_whole("harvest: reach", reach, least=0, most=1000)
    check_whole("harvest: units", units, least=1, most=1 << 24)
    check_text("harvest: tokens", tokens)
    if batches is not None:
        check_whole("harvest: batches", batches, least=1)
    return HarvestOptions(threshold, places, reach, units, tokens, batches)


def harvest(
    model: ComponentModel,
    batches: Iterable[Any],
    chosen: HarvestOptions | None = None,
    boundary: int | None = None,
    tally: Tally | None = None,
    after: Callable[[Tally], None] = lambda tally: None,
) -> Harvest:
    """Look at all batches once.

    Positions of weight 0, such as padding, take no part; all others count alike. Statistics of tokens need batches that
    are tokens, or mappings with an entry of tokens, and are kept for sites that have a position for every token.

    Args:
        model: the decomposition, of rank-one components.
        batches: as the model's call takes them, on its device. Batches that a tally has seen are passed over.
        chosen: what is harvested; by default all of :func:`options`.
        boundary: the token between documents, by which they are told apart; ``None`` takes every example for one.
        tally: what was added up before, to go on with.
        after: called after every batch, for example to keep the tally.

    Returns:
        What was found.

    Raises:
        UsageError: for components of the older method, or data that holds no batches.
    """
    tally = Tally(decomposed(model), chosen or options(), boundary) if tally is None else tally
    gather(tally, model, batches, after)
    return tally.result()


def gather(
    tally: Tally, model: ComponentModel, batches: Iterable[Any], after: Callable[[Tally], None] = lambda tally: None
) -> None:
    """Go through the batches of a tally's share, from where it was stopped.

    Args:
        tally: what was added up so far.
        model: the decomposition.
        batches: all of the data, as for :func:`harvest`. Batches before the share are counted, and go by.
        after: called after every batch, those that went by included.

    Raises:
        UsageError: for components of the older method, or data that holds no batches or ends before the share does.
    """
    whole, (first, stop) = decomposed(model), tally.share
    for batch in islice(batches, tally.batches, tally.options.batches if stop is None else stop):
        if tally.batches < first:
            tally.pass_over(batch)
        else:
            tally.update(whole, batch)
        after(tally)
    if stop is None and not tally.batches:
        raise UsageError("harvest: the data holds no batches")
    if stop is not None and tally.batches < stop:
        raise UsageError(f"harvest: the data ended after {tally.batches} batches, not {stop}; give one process")


def decomposed(model: ComponentModel) -> DecomposedModel:
    """The model, if it is one that can be harvested.

    Raises:
        UsageError: for components of the older method.
    """
    if not isinstance(model, DecomposedModel):
        raise UsageError("harvest: reads causal importances, which the older method has none of; give an SPD run")
    return model
