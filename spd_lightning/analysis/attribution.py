"""Which components act on which, from the inputs to chosen outputs: for one example, or summed over data."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from spd_lightning.analysis.attribution_graph import AttributionGraph
from spd_lightning.analysis.direct_nodes import Chosen
from spd_lightning.analysis.direct_paths import DirectPaths
from spd_lightning.analysis.edge_tally import EdgeTally
from spd_lightning.analysis.examples import examples_of
from spd_lightning.errors import UsageError, check_fraction, check_list, check_whole
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel, DecomposedModel
from spd_lightning.model.call import rows_of

MOST = 1 << 21
"""Edges that are kept."""


def attribution_graph(
    model: ComponentModel,
    batch: Any,
    outputs: Sequence[int] | None = None,
    positions: Sequence[int] | None = (-1,),
    top: int = 1,
    threshold: float = ALIVE_THRESHOLD,
    most: int = MOST,
    hold_norms: bool = True,
    after: Callable[[int], Any] = lambda nodes: None,
) -> AttributionGraph:
    r"""The direct attributions between live components on one example, from the inputs to chosen outputs.

    .. math:: A = \frac{\partial a_c}{\partial a_{c'}}\Big|_\text{stopped} \cdot a_{c'} \, g_{c'}

    is the attribution of component ``c'`` to ``c`` (adversarial parameter decomposition, attribution graphs), with
    inner activations ``a`` and importances ``g`` in the target as it is. The gradient is stopped at every site, so that
    only the direct path counts; it passes through attention patterns and nonlinearities, and through norms as
    ``hold_norms`` says. What a site puts out is
    the sum of its live components, each times its importance, of its bias, and of the rest, which are nodes too and
    which nothing acts on. Inputs are the numbers put in or, of tokens, the vectors of embeddings that are no sites.
    Nodes that do not act on a chosen output, by any path, are left out.

    Args:
        model: the decomposition, of rank-one components.
        batch: one example, with a first dimension of 1, as the model's call takes it.
        outputs: entries of the output, such as tokens, to be nodes; ``None`` for the largest.
        positions: of the output; -1 is the last that counts; ``None`` for all.
        top: how many of the largest outputs, where ``outputs`` names none.
        threshold: importance above which a component is a node.
        most: edges that are kept at most; dropped ones still count in the nodes' sums.
        hold_norms: whether layer norms and RMS norms divide as by constants. Else all that acts through a norm adds up
            to nothing.
        after: called with the number of nodes whose attributions have been found, whenever some have.

    Returns:
        The graph, its numbers in double precision.

    Raises:
        UsageError: for components of the older method, a batch of several examples, or a value outside its range.
    """
    _check(model, threshold, most)
    rows = rows_of(batch)
    if rows != 1:
        raise UsageError(f"graph: takes one example, with a first dimension of 1, got {rows}; sum up several")
    tally = EdgeTally(most, by_position=True)
    _add(tally, model, batch, threshold, _chosen(outputs, positions, top), hold_norms, after)
    return tally.graph()


def summed_graph(
    model: ComponentModel,
    batches: Iterable[Any],
    outputs: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    top: int = 1,
    threshold: float = ALIVE_THRESHOLD,
    most: int = MOST,
    hold_norms: bool = True,
    examples: int | None = None,
    after: Callable[[], Any] = lambda: None,
) -> AttributionGraph:
    """The same summed over examples and positions: a node stands for all places where it occurs.

    Args:
        model: see :func:`attribution_graph`.
        batches: as the model's call takes them, on its device.
        outputs: see :func:`attribution_graph`.
        positions: of the output; ``None`` for all that count.
        top: see :func:`attribution_graph`.
        threshold: see :func:`attribution_graph`.
        most: edges that are kept at most. Where more come up, the weakest so far are dropped, and what comes to them
            later counts from there.
        hold_norms: see :func:`attribution_graph`.
        examples: how many are looked at; ``None`` for all.
        after: called after every example.

    Returns:
        The graph; ``signed`` and ``absolute`` are sums of attributions and of their magnitudes.

    Raises:
        UsageError: as :func:`attribution_graph`, or if there are no examples.
    """
    _check(model, threshold, most)
    if examples is not None:
        check_whole("graph: examples", examples, least=1)
    chosen = _chosen(outputs, positions, top)
    tally = EdgeTally(most, by_position=False)
    for example in islice(examples_of(batches), examples):
        _add(tally, model, example, threshold, chosen, hold_norms)
        after()
    if not tally.examples:
        raise UsageError("graph: the data holds no examples")
    return tally.graph()


def _check(model: ComponentModel, threshold: float, most: int) -> None:
    if not isinstance(model, DecomposedModel):
        raise UsageError("graph: reads causal importances, which the older method has none of; give an SPD run")
    check_fraction("graph: threshold", threshold)
    check_whole("graph: most", most, least=1)


def _chosen(outputs: Sequence[int] | None, positions: Sequence[int] | None, top: int) -> Chosen:
    for name, given in {"outputs": outputs, "positions": positions}.items():
        if given is not None:
            check_list(f"graph: {name}", given)
            if not given:
                raise UsageError(f"graph: {name} must name at least one")
            for number in given:
                check_whole(f"graph: {name}: each", number)
            if len(set(given)) < len(given):
                raise UsageError(f"graph: {name} must differ, got {list(given)}")
    check_whole("graph: top", top, least=1)
    return Chosen(outputs, positions, top)


def _add(
    tally: EdgeTally,
    model: ComponentModel,
    batch: Any,
    threshold: float,
    chosen: Chosen,
    hold_norms: bool,
    after: Callable[[int], Any] = lambda nodes: None,
) -> None:
    """Add an example, from its outputs back: only what acts on them is followed."""
    assert isinstance(model, DecomposedModel)
    paths = DirectPaths(model, batch, threshold, chosen, hold_norms)
    tally.begin(paths.places)
    for nodes in [*(source.nodes for source in paths.sources), paths.readers[-1].nodes]:
        tally.add_nodes(nodes)
    codes = [tally.code(source.nodes) for source in paths.sources]
    acts = [np.zeros(len(code), dtype=bool) for code in codes]
    for reader in reversed(paths.readers):
        own, earlier = tally.code(reader.nodes), reader.earlier
        wanted = np.ones(len(own), dtype=bool) if reader.writes is None else acts[reader.writes]
        for some, found in paths.attributions(reader, torch.from_numpy(wanted.nonzero()[0])):
            tally.add_edges(np.concatenate(codes[:earlier]), own[some.numpy()], found.numpy())
            starts = np.cumsum([len(code) for code in codes[:earlier]])[:-1]
            for flags, part in zip(acts, np.split((found != 0).any(0).numpy(), starts), strict=False):
                flags |= part
            after(len(some))
