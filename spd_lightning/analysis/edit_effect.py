"""What an edit does where the edited components matter, and elsewhere, beside random changes of the same size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spd_lightning.analysis.edit_controls import Changes, controls
from spd_lightning.analysis.edit_outcomes import CleanBatch, Outcome, Sums, add_up, fires
from spd_lightning.analysis.editing import Edit, alike, apply, changes, copied, resolved, sites_in
from spd_lightning.analysis.site_fitting import FittedVectors
from spd_lightning.errors import UsageError, check_fraction, check_whole
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.functional.precision import single
from spd_lightning.model import ComponentModel, Grouping
from spd_lightning.model.wrapping import site_of


@dataclass(frozen=True)
class EditReport:
    """Effect and specificity of an edit.

    Attributes:
        edits: what was edited, with all that belonged to it.
        distance: how outputs are compared.
        threshold: importance above which a component counts as important.
        positions: weight of all positions of the output; their number where all weigh 1.
        share: the share of it where an edited component is important.
        size: Frobenius norm of the change of each site's matrix.
        relative_size: that over the norm of the matrix.
        edited: the edit itself, one entry.
        controls: random changes of the same sizes at the same sites, by kind, see
            :func:`spd_lightning.analysis.edit_controls.controls`.
        fitted: of each edited site, how much of what its edited components read the fitted vectors read, in their
            order, see :class:`spd_lightning.analysis.FittedVectors`; empty where nothing was fitted.
    """

    edits: list[Edit]
    distance: DistanceKind
    threshold: float
    positions: float
    share: float
    size: dict[str, float]
    relative_size: dict[str, float]
    edited: Outcome
    controls: dict[str, Outcome]
    fitted: dict[str, list[float]] = field(default_factory=dict)


@torch.no_grad()
def edit_report(
    model: ComponentModel,
    edits: Iterable[Edit],
    batches: Iterable[Any],
    distance: DistanceKind = "mse",
    threshold: float = ALIVE_THRESHOLD,
    draws: int = 5,
    seed: int = 0,
    mechanisms: Grouping | None = None,
    fitted: Mapping[str, FittedVectors] | None = None,
) -> EditReport:
    """Measure an edit on data, in edited copies of the target.

    A position counts as one of an edited component if its importance there, in the target as it was, is above the
    threshold. Where a site has more positions than the output, an output counts if any of them does.

    Args:
        model: the decomposition.
        edits: see :func:`spd_lightning.analysis.edited`.
        batches: as the model's call takes them, on its device; gone through twice.
        distance: how outputs are compared; best as in training.
        threshold: importance above which a component counts as important.
        draws: random changes of each kind.
        seed: seeds them.
        mechanisms: see :func:`spd_lightning.analysis.edited`.
        fitted: see :func:`spd_lightning.analysis.edited`.

    Returns:
        The report.

    Raises:
        UsageError: for edits that cannot be made, a value outside its range, or data without batches.
    """
    check_fraction("edit: threshold", threshold)
    check_whole("edit: draws", draws, least=1)
    chosen = resolved(model, edits, mechanisms)
    found, numbers = changes(model, chosen, fitted), _numbers(model, chosen)
    random = controls(model, found, numbers, alive_anywhere(model, batches, threshold), draws, seed)
    tried = [found, *(one for some in random.values() for one in some)]
    sums, scratch = Sums(len(tried)), _Scratch(model, found)
    for batch in batches:
        clean = CleanBatch.of(model, batch, numbers, threshold)
        add_up(sums, clean, distance, (scratch.output(one, batch) for one in tried))
    first, *rest = sums.outcomes([1, *map(len, random.values())])
    size = {name: change.norm() for name, change in found.items()}
    return EditReport(
        edits=chosen,
        distance=distance,
        threshold=threshold,
        positions=float(sums.weight.sum()),
        share=float(sums.weight[0] / sums.weight.sum()),
        size=size,
        relative_size={name: _share_of_matrix(model, name, size[name]) for name in found},
        edited=first,
        controls=dict(zip(random, rest, strict=True)),
        fitted={name: some.explained.tolist() for name, some in (fitted or {}).items()},
    )


def _share_of_matrix(model: ComponentModel, site: str, size: float) -> float:
    matrix = float(single(model.components[site].site.weight()).norm())
    return size / matrix if matrix else float("nan")


class _Scratch:
    """A copy of the target that takes on one change after the other.

    Args:
        model: the decomposition.
        found: changes of all sites that will be changed.
    """

    def __init__(self, model: ComponentModel, found: Changes) -> None:
        self._call, self._network = model.call, copied(model.target)
        self._sites = sites_in(self._network, model)
        self._own = {name: model.components[name].site.weight().clone() for name in found}

    def output(self, change: Changes, batch: Any) -> Tensor:
        """What the target puts out with a change of its weights."""
        for name, weight in self._own.items():
            self._sites[name].put(weight)
        apply(self._sites, change)
        arguments = self._call.arguments(batch)
        return self._call.chosen(self._network(*arguments.args, **arguments.kwargs))


def _numbers(model: ComponentModel, chosen: Iterable[Edit]) -> dict[str, set[int]]:
    """Edited components by site, under the names of all sites that are changed with them."""
    found: dict[str, set[int]] = {}
    for edit in chosen:
        for name in alike(model, edit.site):
            found.setdefault(name, set()).add(edit.component)
    return found


def alive_anywhere(model: ComponentModel, batches: Iterable[Any], threshold: float) -> dict[str, Tensor]:
    """Components that are important anywhere.

    Args:
        model: the decomposition.
        batches: as its call takes them.
        threshold: importance above which a component counts as important.

    Returns:
        Boolean ``[C]`` by site, on the CPU.

    Raises:
        UsageError: if there are no batches.
    """
    alive = {name: torch.zeros(parts.n_components, dtype=torch.bool) for name, parts in model.components.items()}
    seen = 0
    for batch in batches:
        seen += 1
        counted = model.call.arguments(batch).weights
        for call, importance in model.importance_of(batch).items():
            alive[site_of(call)] |= fires(importance, counted, threshold).flatten(0, -2).any(0).cpu()
    if not seen:
        raise UsageError("edit: the data holds no batches to measure on")
    return alive
