"""Components that are to be edited, with vectors that are fitted to data."""

from collections.abc import Iterable
from typing import Any

import torch

from spd_lightning.analysis.editing import Edit, resolved
from spd_lightning.analysis.site_fitting import FittedVectors, Moments
from spd_lightning.errors import UsageError, check_fraction
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel, DecomposedModel, Grouping
from spd_lightning.model.wrapping import site_of


@torch.no_grad()
def fitted_vectors(
    model: ComponentModel,
    edits: Iterable[Edit],
    batches: Iterable[Any],
    threshold: float = ALIVE_THRESHOLD,
    mechanisms: Grouping | None = None,
) -> dict[str, FittedVectors]:
    """Fit the vectors of components that are to be edited to data (ours).

    A read vector is trained only up to what it reads in vain: of other features, while their own components are what
    counts. The fitted one, ``r``, is the linear read of the site's input ``x`` that agrees best, in least squares, with
    ``V[:, c] · x`` where the component is important and 0 where it is not. What goes with it, the fitted write vectors,
    are what the target's own matrix ``W`` puts out in proportion to the reads: with second moments ``M`` of the input,
    ``(Rᵀ M R)⁻¹ Rᵀ M Wᵀ``, so that once all are removed nothing that the site writes is correlated with any of
    the reads. It takes what other components and the unexplained part write for the same cause.

    Args:
        model: the decomposition; of several edited sites that are one matrix, the input of the named one is fitted to.
        edits: see :func:`spd_lightning.analysis.edited`.
        batches: as the model's call takes them, on its device; best other ones than those of a report.
        threshold: importance above which a component counts as important.
        mechanisms: see :func:`spd_lightning.analysis.edited`.

    Returns:
        Vectors of the edited components, by site.

    Raises:
        UsageError: for the older method, edits that cannot be made, sites of too wide inputs, or data that hold fewer
            positions than a site has inputs or on which a component is nowhere important.
    """
    check_fraction("edit: threshold", threshold)
    chosen = resolved(model, edits, mechanisms)
    if not isinstance(model, DecomposedModel):
        raise UsageError("edit: fits components of rank one, not those of the older method")
    numbers: dict[str, list[int]] = {}
    for edit in chosen:
        numbers.setdefault(edit.site, []).append(edit.component)
    moments = {site: Moments(site, model.components[site], some) for site, some in numbers.items()}
    for batch in batches:
        clean = model.clean(batch)
        for call, importance in model.importance(clean).items():
            if site_of(call) in moments:
                moments[site_of(call)].add(clean.site_inputs[call], importance, clean.weights, threshold)
    return {site: some.solved(threshold) for site, some in moments.items()}
