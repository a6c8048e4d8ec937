"""What every loss of one training step shares."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Generator, Tensor

from spd_lightning.functional import RowShare
from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.losses.sharing import processes, shared_rows, sum_over_processes
from spd_lightning.model import (
    CausalImportance,
    CleanPass,
    ComponentModel,
    DecomposedModel,
    FastOptions,
    FastPass,
    Mask,
)


@dataclass(frozen=True)
class Noise:
    """Randomness of one step, by purpose: two purposes never share a stream, nor do two steps.

    Processes that share a batch share the streams as well and take from them what belongs to their rows, so that no
    two rows ever get the same numbers, and a row's do not depend on who holds it.

    Attributes:
        key: what the streams are keyed by, such as ``(seed, step)``.
        device: where draws are made.
        share: which rows of a batch this process holds; ``None`` for all.
    """

    key: tuple[int | str, ...]
    device: torch.device
    share: RowShare | None = None

    def named(self, purpose: str) -> "Noise":
        """The streams of one purpose."""
        return replace(self, key=(*self.key, purpose))

    def generator(self, *purpose: int | str) -> Generator:
        """A fresh generator for a purpose."""
        return keyed_generator(*self.key, *purpose, device=self.device)


@dataclass(frozen=True)
class Step:
    """One batch, seen once by the target and the causal-importance functions, for all losses.

    Attributes:
        model: the decomposition.
        x: the batch, as the target takes it.
        clean: the target's output and site inputs, without gradient.
        importance: causal importances per site, with gradient.
        noise: where masks and subsets are drawn from.
        progress: fraction of training done, for schedules.
        weights: of the examples, ``[...]``, summing to 1, where one row stands for many; ``None`` weighs all alike.
            Where processes share the batch, the mean over processes of these sums is 1.
        fast: the batch's fast form; ``None`` runs everything plainly.
    """

    model: ComponentModel[Any]
    x: Any
    clean: CleanPass
    importance: dict[str, CausalImportance]
    noise: Noise
    progress: float = 0.0
    weights: Tensor | None = None
    fast: FastPass | None = None

    @classmethod
    def of(
        cls, model: DecomposedModel, x: Any, noise: Noise, progress: float = 0.0, weights: Tensor | None = None
    ) -> "Step":
        """Run the clean pass and predict importances, plainly."""
        clean = model.clean(x)
        return cls(model, x, clean, model.causal_importance(clean.site_inputs), noise, progress, weights)

    @classmethod
    def fast_of(
        cls,
        model: DecomposedModel,
        x: Any,
        noise: Noise,
        progress: float = 0.0,
        weights: Tensor | None = None,
        options: FastOptions = FastOptions(),  # noqa: B008 (frozen)
    ) -> "Step":
        """The same in its fast form."""
        fast = FastPass(model, x, options)
        return cls(model, x, fast.clean, fast.importance(), noise, progress, weights, fast)

    def masked(self, masks: Mapping[str, Mask], routing: Mapping[str, Tensor] | None = None) -> Tensor:
        """The masked network's output on this batch, see :meth:`ComponentModel.masked`."""
        if self.fast is None:
            return self.model.masked(self.x, masks, routing)
        return self.fast.masked(masks, routing)

    def inner(self, site: str) -> Tensor:
        """A site's inner activations on its clean input, ``[..., C]``, with gradient to its read vectors."""
        if self.fast is not None:
            return self.fast.inner[site]
        parts = self.model.components[site]
        inner: Tensor = parts.inner(self.clean.site_inputs[site])
        return inner.to(parts.V.dtype)

    def among_processes(self) -> Self:
        """The same step, knowing which rows of the batch are here where several processes share it.

        To be called by every process: they exchange the numbers of their rows. A weighted mean, averaged over
        processes, is then the mean over the batch, and noise belongs to rows, whoever holds them.
        """
        if processes() == 1:
            return self
        lower = next(iter(self.importance.values())).lower
        rows = shared_rows(lower.shape[:-1], self.weights, lower.device)
        return replace(self, weights=rows.weights, noise=replace(self.noise, share=rows.share))

    def with_first_row_noise(self) -> "Step":
        """The same step with the noise of the batch's first rows, the same on every process that shares the batch."""
        if self.noise.share is None:
            return self
        return replace(self, noise=replace(self.noise, share=self.noise.share._replace(first=0)))

    def summed(self, gradient: Tensor) -> Tensor:
        """A gradient of a mean over the rows here, up to a positive factor that of the mean over the whole batch."""
        rows = 1 if self.weights is not None else next(iter(self.importance.values())).lower[..., 0].numel()
        return sum_over_processes(gradient * rows)

    @property
    def compiled(self) -> bool:
        """Whether compiled kernels may be used."""
        return self.fast is not None and self.fast.options.compiled

    def named(self, purpose: str) -> "Step":
        """The same step with the streams of one purpose."""
        return replace(self, noise=self.noise.named(purpose))
