"""What every loss of one training step shares."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Generator, Tensor

from spd_lightning.functional import RowShare, active_counts
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.functional.weights import EVEN, Weights
from spd_lightning.losses.sharing import mean_over_processes, processes, shared_rows, sum_over_processes
from spd_lightning.model import CausalImportance, CleanPass, ComponentModel, DecomposedModel, Form, Mask, PlainForm
from spd_lightning.model.wrapping import site_of


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
    """One batch, seen once by the target and the importance function, for all losses.

    Attributes:
        form: the batch, and how what is asked of it is computed.
        noise: where masks and subsets are drawn from.
        progress: fraction of training done, for schedules.
        weights: what the batch's positions weigh in every mean.
        costs: what ablating everything costs, by kind of distance, where a term has asked for it.
    """

    form: Form
    noise: Noise
    progress: float = 0.0
    weights: Weights = EVEN
    costs: dict[DistanceKind, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, model: DecomposedModel, batch: Any, noise: Noise, progress: float = 0.0) -> Self:
        """A batch seen plainly."""
        return cls.seen(PlainForm(model, batch), noise, progress)

    @classmethod
    def seen(cls, form: Form, noise: Noise, progress: float = 0.0) -> Self:
        """A batch in some form, its positions weighed as the call says."""
        return cls(form, noise, progress, form.clean.weights)

    @property
    def model(self) -> ComponentModel:
        """The decomposition."""
        return self.form.model

    @property
    def batch(self) -> Any:
        """The batch, as the call takes it."""
        return self.form.batch

    @property
    def clean(self) -> CleanPass:
        """The target's output and site inputs, without gradient."""
        return self.form.clean

    @property
    def importance(self) -> Mapping[str, CausalImportance]:
        """Causal importances per site call, with gradient."""
        return self.form.importance

    def masked(self, masks: Mapping[str, Mask], routing: Mapping[str, Tensor] | None = None) -> Tensor:
        """The masked network's output on this batch, see :meth:`ComponentModel.masked`."""
        return self.form.masked(masks, routing).output

    def keeping(self, masks: Mapping[str, Mask], keep: Sequence[str]) -> Mapping[str, Tensor]:
        """What modules of the masked network put out on this batch, by name."""
        return self.form.masked(masks, keep=keep).kept

    def inner(self, call: str) -> Tensor:
        """A site call's inner activations on its clean input, ``[..., C]``, with gradient to its read vectors."""
        return self.form.inner(call)

    def faithfulness(self) -> Tensor:
        """Mean squared entry of what the components leave unexplained, a scalar."""
        return self.form.faithfulness()

    def penalty(self, calls: Iterable[str], p: float, eps: float) -> Tensor:
        """``(g + eps) ** p`` of upper-leaky importances, summed over calls and components, mean over positions."""
        return self.form.penalty(calls, p, eps, self.weights)

    def table_of(self, call: str) -> str:
        """The site call whose importances are this one's as well, where components span sites; else this one."""
        site = site_of(call)
        first = self.model.mechanisms.table_of(site)
        return call if first == site else first + call[len(site) :]

    @property
    def tables(self) -> list[str]:
        """The site calls whose importances differ: all of them, unless components span sites."""
        return [call for call in self.importance if self.table_of(call) == call]

    def weights_of(self, tensor: Tensor) -> Tensor | None:
        """Weights of the leading dimensions of ``[..., k]``; ``None`` for a plain mean."""
        return self.weights.of(tensor.shape[:-1])

    @property
    def constant_importance(self) -> dict[str, CausalImportance]:
        """The importances as constants, for an ascent in which the sources alone move."""
        return {call: CausalImportance(*(part.detach() for part in ci)) for call, ci in self.importance.items()}

    def distance(self, kind: DistanceKind, output: Tensor) -> Tensor:
        """How far an output is from the target's own, by the weights of its positions; see :func:`distance`."""
        return self.form.distance(kind, output, self.weights_of(self.clean.output))

    def l0(self, threshold: float) -> Tensor:
        """Mean number of components with a lower-leaky importance above a threshold, over all tables, a scalar."""
        counts = [active_counts(self.counted(self.importance[call].lower), threshold) for call in self.tables]
        return torch.stack([count.float().mean() for count in counts]).sum()

    def counted(self, tensor: Tensor) -> Tensor:
        """The entries of ``[..., k]`` at positions that count, ``[positions, k]``; all as they are where all do."""
        weights = self.weights_of(tensor)
        return tensor if weights is None else tensor[weights > 0]

    def among_processes(self) -> Self:
        """The same step, knowing which rows of the batch are here where several processes share it.

        To be called by every process: they exchange the numbers of their rows. A weighted mean, averaged over
        processes, is then the mean over the batch, and noise belongs to rows, whichever process holds them.
        """
        if processes() == 1:
            return self
        output = self.clean.output
        share, weights = shared_rows(len(output), self.weights, output.device)
        return replace(self, weights=weights, noise=replace(self.noise, share=share))

    @property
    def combine(self) -> Callable[[Tensor], Tensor] | None:
        """Turns means over the rows here into means over the batch; ``None`` where they are all here."""
        return None if self.noise.share is None else mean_over_processes

    def with_first_row_noise(self) -> Self:
        """The same step with the noise of the batch's first rows, the same on every process that shares the batch."""
        if self.noise.share is None:
            return self
        return replace(self, noise=replace(self.noise, share=self.noise.share._replace(first=0)))

    @property
    def mass(self) -> float:
        """What a mean over the output's positions weighs beside those of other batches and processes."""
        return self.weights.mass(self.clean.output.shape[:-1])

    def summed(self, gradient: Tensor) -> Tensor:
        """A gradient of a mean over the rows here, up to a positive factor that of the mean over the whole batch."""
        return sum_over_processes(gradient * self.mass)

    def unweighted(self) -> Self:
        """The same step with positions that all count alike, unless some do not count at all."""
        values = self.weights.values
        padded = values is not None and not self.weights.normalised and bool((values == 0).any())
        return replace(self, weights=Weights(values if padded else None))

    def named(self, purpose: str) -> Self:
        """The same step with the streams of one purpose."""
        return replace(self, noise=self.noise.named(purpose))
