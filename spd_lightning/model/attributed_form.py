"""A batch seen plainly by the older method."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.functional import distance, faithfulness, mask_from_source
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.functional.sampling import RowShare
from spd_lightning.functional.weights import Weights
from spd_lightning.kernels import row_uniforms
from spd_lightning.model.attributed import Attributed, AttributedModel
from spd_lightning.model.masks import Mask, SiteMask
from spd_lightning.model.passes import CausalImportance, MaskedPass
from spd_lightning.model.wrapping import site_of


class AttributedForm:
    """One batch through the target and its components, plainly; see :class:`spd_lightning.model.plain.Form`.

    Args:
        model: the decomposition.
        batch: as the call takes it.

    Attributes:
        scores: attributions ``[..., C]``, without gradient.
        importance: by site call, once :meth:`choose` has been given the components that the batch keeps.
    """

    def __init__(self, model: AttributedModel, batch: Any) -> None:
        self.model, self.batch = model, batch
        self.clean, self.scores = self.attributed()
        self.importance: Mapping[str, CausalImportance] = {}

    def attributed(self) -> Attributed:
        """See :meth:`AttributedModel.attributed`."""
        return self.model.attributed(self.batch)

    def choose(self, mask: Tensor) -> None:
        """Say which components each example keeps, 0 or 1, ``[..., C]``."""
        self.importance = dict.fromkeys(self.clean.site_inputs, CausalImportance(self.scores, mask, mask))

    def masked(
        self, masks: Mapping[str, Mask], routing: Mapping[str, Tensor] | None = None, keep: Sequence[str] = ()
    ) -> MaskedPass:
        """See :class:`spd_lightning.model.plain.Form`."""
        return self.model.masked(self.batch, masks, routing, keep)

    @cached_property
    def sparse(self) -> MaskedPass:
        """The network on the chosen components alone, and what the modules of its sites put out."""
        masks = {call: SiteMask(importance.lower) for call, importance in self.importance.items()}
        return self.masked(masks, keep=list(self.model.wrapping.modules))

    def clean_output(self, call: str) -> Tensor:
        """What the target's own site puts out, ``[..., d_out]``."""
        site = self.model.components[site_of(call)].site
        return site.output(site.own(self.clean.site_inputs[call]))

    def inner(self, call: str) -> Tensor:
        """What each component reads on the clean input, ``[..., C, m]``."""
        return self.model.components[site_of(call)].inner(self.clean.site_inputs[call])

    def distance(self, kind: DistanceKind, output: Tensor, weights: Tensor | None) -> Tensor:
        """See :class:`spd_lightning.model.plain.Form`."""
        return distance(kind, output, self.clean.output, weights)

    def faithfulness(self) -> Tensor:
        """See :class:`spd_lightning.model.plain.Form`."""
        return faithfulness(parts.delta() for parts in self.model.explained())

    def penalty(self, calls: Iterable[str], p: float, eps: float, weights: Weights) -> Tensor:
        """None: nothing here predicts an importance that could be penalised."""
        raise UsageError("penalties on importances need predicted ones; use method: spd")

    def uniform_mask(self, call: str, delta: Tensor | None, seed: int, share: RowShare | None) -> Mask:
        """See :class:`spd_lightning.model.plain.Form`."""
        lower = self.importance[call].lower
        return SiteMask(mask_from_source(lower, row_uniforms(lower.shape, seed, lower, False, share)), delta)
