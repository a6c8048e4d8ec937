"""Masks of one site, as numbers or as the noise they will be drawn from."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.functional.masks import mask_from_source
from spd_lightning.functional.sampling import RowShare
from spd_lightning.kernels import masked_chosen, masked_inner, row_uniforms


class SiteMask(NamedTuple):
    """Masks of one site: ``components`` ``[..., C]`` and, where the delta component takes part, ``delta`` ``[...]``."""

    components: Tensor
    delta: Tensor | None = None

    def apply(self, inner: Tensor) -> Tensor:
        """Inner activations times mask, the delta component's mask taken off: ``h (m - m_delta)``, ``[..., C]``."""
        return inner * self._shifted()

    def apply_at(self, chosen: Tensor, inner: Tensor, leading: torch.Size) -> Tensor:
        """:meth:`apply` at some of all positions.

        Args:
            chosen: their numbers, ``[rows]``.
            inner: inner activations there, ``[rows, C]``.
            leading: the dimensions of all positions.
        """
        mask = self._shifted()
        return inner * mask.expand(*leading, mask.shape[-1]).flatten(0, -2).index_select(0, chosen)

    def _shifted(self) -> Tensor:
        return self.components if self.delta is None else self.components - self.delta[..., None]


class UniformMask(NamedTuple):
    """A stochastic mask that is drawn where it is applied and never stored (SPD paper, equation for ``m``).

    Attributes:
        importance: lower-leaky importances ``g``, ``[..., C]``.
        delta: the delta component's mask, ``[...]``.
        seed: of the noise.
        compiled: whether compiled kernels may be used.
        share: which rows of a batch these are; ``None`` for all.
    """

    importance: Tensor
    delta: Tensor | None
    seed: int
    compiled: bool
    share: RowShare | None = None

    @property
    def components(self) -> Tensor:
        """The masks that :meth:`apply` uses, written out, ``[..., C]``."""
        source = row_uniforms(self.importance.shape, self.seed, self.importance, self.compiled, self.share)
        return mask_from_source(self.importance, source)

    def apply(self, inner: Tensor) -> Tensor:
        """See :meth:`SiteMask.apply`."""
        return masked_inner(inner, self.importance, self.delta, self.seed, self.compiled, self.share)

    def apply_at(self, chosen: Tensor, inner: Tensor, leading: torch.Size) -> Tensor:
        """See :meth:`SiteMask.apply_at`."""
        return masked_chosen(inner, chosen, self.importance, self.delta, self.seed, self.compiled, self.share)


Mask = SiteMask | UniformMask


def as_mask(call: str, given: Any, n_components: int, like: Tensor) -> Mask:
    """What a caller gave as a mask, made one.

    Args:
        call: the site call that it is for, for messages.
        given: a mask, or numbers ``[..., C]`` as a tensor, an array or a list.
        n_components: ``C``.
        like: has the type and the device of the components.

    Raises:
        UsageError: if it is neither, or of another width.
    """
    if not isinstance(given, SiteMask | UniformMask | Tensor):
        try:
            given = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError):
            said = f"got a {type(given).__name__}"
            raise UsageError(f"masks: {call!r} must be a tensor, an array or a SiteMask, {said}") from None
    mask: Mask = given
    if isinstance(given, Tensor):
        mask = SiteMask(given.to(like) if not given.is_floating_point() or given.device != like.device else given)
    shape = mask.importance.shape if isinstance(mask, UniformMask) else mask.components.shape
    if shape[-1:] != (n_components,):
        raise UsageError(f"masks: {call!r} has {n_components} components, got a mask of shape {list(shape)}")
    return mask
