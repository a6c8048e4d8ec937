"""A batch seen once, plainly: the readable form of a step, and its specification."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from spd_lightning.functional import distance, faithfulness, mask_from_source
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.functional.sampling import RowShare
from spd_lightning.functional.weights import Weights
from spd_lightning.kernels import row_uniforms
from spd_lightning.model.component_model import ComponentModel
from spd_lightning.model.decomposed import DecomposedModel
from spd_lightning.model.masks import Mask, SiteMask
from spd_lightning.model.passes import CausalImportance, CleanPass, MaskedPass
from spd_lightning.model.wrapping import site_of


class Form(Protocol):
    """What losses may ask of a batch; how it is computed is the form's own business.

    Attributes:
        model: the decomposition.
        batch: the batch, as the call takes it.
        clean: the target's output and site inputs, without gradient.
        importance: causal importances per site call, with gradient.
    """

    @property
    def model(self) -> ComponentModel: ...  # noqa: D102
    @property
    def batch(self) -> Any: ...  # noqa: D102
    @property
    def clean(self) -> CleanPass: ...  # noqa: D102
    @property
    def importance(self) -> Mapping[str, CausalImportance]: ...  # noqa: D102

    def masked(
        self, masks: Mapping[str, Mask], routing: Mapping[str, Tensor] | None = None, keep: Sequence[str] = ()
    ) -> MaskedPass:
        """The masked network on this batch, see :meth:`ComponentModel.masked`."""
        ...

    def inner(self, call: str) -> Tensor:
        """A site call's inner activations on its clean input, ``[..., C]``, with gradient to its read vectors."""
        ...

    def distance(self, kind: DistanceKind, output: Tensor, weights: Tensor | None) -> Tensor:
        """How far an output is from the target's own, by weights of its positions ``[...]``, a scalar."""
        ...

    def faithfulness(self) -> Tensor:
        """Mean squared entry of what the components leave unexplained, a scalar."""
        ...

    def penalty(self, calls: Iterable[str], p: float, eps: float, weights: Weights) -> Tensor:
        """``(g + eps) ** p`` of upper-leaky importances, summed over calls and components, mean over positions."""
        ...

    def uniform_mask(self, call: str, delta: Tensor | None, seed: int, share: RowShare | None) -> Mask:
        """A stochastic mask of uniform sources, drawn under a seed."""
        ...


class PlainForm:
    """One batch through the target and the importance function.

    Args:
        model: the decomposition.
        batch: as the call takes it.
    """

    def __init__(self, model: DecomposedModel, batch: Any) -> None:
        self.model, self.batch = model, batch
        self.clean = model.clean(batch)
        self.importance: Mapping[str, CausalImportance] = model.importance(self.clean)

    def masked(
        self, masks: Mapping[str, Mask], routing: Mapping[str, Tensor] | None = None, keep: Sequence[str] = ()
    ) -> MaskedPass:
        """See :class:`Form`."""
        return self.model.masked(self.batch, masks, routing, keep)

    def inner(self, call: str) -> Tensor:
        """See :class:`Form`."""
        return self.model.components[site_of(call)].inner(self.clean.site_inputs[call])

    def distance(self, kind: DistanceKind, output: Tensor, weights: Tensor | None) -> Tensor:
        """See :class:`Form`."""
        return distance(kind, output, self.clean.output, weights)

    def faithfulness(self) -> Tensor:
        """See :class:`Form`."""
        return faithfulness(parts.delta() for parts in self.model.explained())

    def penalty(self, calls: Iterable[str], p: float, eps: float, weights: Weights) -> Tensor:
        """See :class:`Form`."""
        sums = [weights.mean((self.importance[call].upper + eps).pow(p).sum(-1)) for call in calls]
        return sum(sums[1:], sums[0])

    def uniform_mask(self, call: str, delta: Tensor | None, seed: int, share: RowShare | None) -> Mask:
        """See :class:`Form`."""
        lower = self.importance[call].lower
        source = row_uniforms(lower.shape, seed, lower, compiled=False, share=share)
        return SiteMask(mask_from_source(lower, source), delta)
