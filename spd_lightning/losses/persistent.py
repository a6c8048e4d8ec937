"""An adversary that remembers: its sources are kept, and pushed on, from step to step (VPD)."""

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from spd_lightning.errors import check_below_one, check_choice, check_fraction, check_whole
from spd_lightning.functional import AdamRates, independent_subset
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses.base import check_positive
from spd_lightning.losses.kept_sources import Channels, KeptSources, Scope
from spd_lightning.losses.reconstruction import Reconstruction, Subset
from spd_lightning.losses.sources import masks_from_channels, random_channels
from spd_lightning.losses.step import Step
from spd_lightning.model import CausalImportance


class _Pending(NamedTuple):
    """Sources whose gradient the objective's own backward pass will give."""

    leaves: Channels
    rates: AdamRates
    shared: bool
    unit: Tensor | None


class _Merged(NamedTuple):
    """One pass for both kinds of masks: who gets the adversary's, where components run, the others' sources."""

    chosen: Subset
    routing: Subset
    spare: Channels


class PersistentAdversary(Reconstruction):
    """Distance under the masks of an adversary that is not started anew at every step.

    Sources in [0, 1], one per component and one for the delta component, are kept over training and pushed towards a
    larger distance by Adam: ``ascents`` times before the term is computed, and once more with the gradient that the
    objective's backward pass gives for them. They belong to the rows of a batch and their positions, not to the data.
    For evaluation take a fresh adversary (``AblationCheck``): this one can be trapped.

    Args:
        coefficient: weight of the term; 0.5 beside a stochastic term of 0.5 in the published runs.
        distance: ``"kl"`` or ``"mse"``.
        scope: what has sources of its own: ``"row"``, every row and position of a batch (published; memory of three
            numbers each); ``"position"``, every position, for all rows; ``"component"`` alone; or a ``"pool"`` of
            vectors, of which every row draws one at each step.
        pool: number of vectors of a pool.
        ascents: pushes before the term is computed.
        lr: length of a push, roughly; (``ascents`` + 1) x ``lr`` x steps around 1 crosses the range.
        warmup: fraction of training over which ``lr`` rises linearly from 0.
        beta1: Adam's decay of the mean gradient.
        beta2: Adam's decay of the mean squared gradient.
        eps: Adam's, added to the root.
        share: chance that a position gets the adversary's masks. Below 1 this is the merged form: the other positions
            get stochastic masks on a random subset of the sites, in the same pass, and no other stochastic term is
            needed.
        relative: whether the distance is divided by what ablating everything costs, as for ``Reconstruction`` (ours).

    Raises:
        UsageError: for a value outside its range.
    """

    def __init__(
        self,
        coefficient: float = 0.5,
        distance: DistanceKind = "kl",
        scope: Scope = "row",
        pool: int = 16,
        ascents: int = 2,
        lr: float = 0.01,
        warmup: float = 0.025,
        beta1: float = 0.5,
        beta2: float = 0.99,
        eps: float = 1e-8,
        share: float = 1.0,
        relative: bool = False,
    ) -> None:
        super().__init__(coefficient, sources="adversarial", distance=distance, relative=relative)
        check_choice("scope", scope, get_args(Scope))
        check_whole("pool", pool, least=1)
        check_whole("ascents", ascents, least=0)
        check_fraction("warmup", warmup)
        check_below_one("beta1", beta1)
        check_below_one("beta2", beta2)
        check_fraction("share", share, zero=False)
        self.scope, self.pool, self.ascents = scope, pool, ascents
        self.lr, self.eps = check_positive("lr", lr), check_positive("eps", eps)
        self.warmup, self.beta1, self.beta2, self.share = warmup, beta1, beta2, share
        self.kept = KeptSources(scope, pool)
        self._pending: _Pending | None = None

    def forward(self, step: Step) -> Tensor:
        """The distance under the present sources, which are pushed on first where gradients are taken."""
        self.kept.start(step)
        shared, rates, merged = step.noise.share is not None, self.rates_at(step.progress), self._merged(step)
        frozen = step.constant_importance
        for _ in range(self.ascents if torch.is_grad_enabled() else 0):
            leaves = self.kept.leaves()
            reached = self._reached(step, frozen, leaves, merged)
            gradients = torch.autograd.grad(reached, list(leaves.values()))
            self.kept.push(dict(zip(leaves, gradients, strict=True)), rates, shared)
        leaves = self.kept.leaves()
        self._pending = _Pending(leaves, rates, shared, self._unit(step))
        return self._in_units(self._reached(step, step.importance, leaves, merged), step)

    def rates_at(self, progress: float) -> AdamRates:
        """Adam's rates at a fraction of training."""
        risen = min(progress / self.warmup, 1.0) if self.warmup else 1.0
        return AdamRates(self.lr * risen, self.beta1, self.beta2, self.eps)

    def after_backward(self, scale: float) -> None:
        """The last push of a step, with the gradient that the objective has for the sources."""
        pending, self._pending = self._pending, None
        if pending is None or not scale:
            return
        factor = (1.0 if pending.unit is None else pending.unit) / scale  # as large as those of the other pushes
        gradients = {table: leaf.grad * factor for table, leaf in pending.leaves.items() if leaf.grad is not None}
        if gradients:
            self.kept.push(gradients, pending.rates, pending.shared)

    def state(self) -> dict[str, Any] | None:
        """Sources and moments."""
        return self.kept.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from those of a checkpoint."""
        self.kept.load_state(state)

    def _reached(
        self, step: Step, importance: Mapping[str, CausalImportance], leaves: Channels, merged: _Merged | None
    ) -> Tensor:
        """The distance, with the adversary's sources where they are chosen and stochastic ones elsewhere."""
        channels = self.kept.spread(step, leaves)
        if merged is None:
            return self._routed_distance(step, masks_from_channels(step, importance, channels), None)
        mixed = {
            table: torch.where(merged.chosen[table][..., None], source, merged.spare[table])
            for table, source in channels.items()
        }
        return self._routed_distance(step, masks_from_channels(step, importance, mixed), merged.routing)

    def _merged(self, step: Step) -> _Merged | None:
        if self.share == 1:
            return None
        leading = {call: ci.lower.shape[:-1] for call, ci in step.importance.items()}
        draws = {shape: self._chosen(step, shape) for shape in dict.fromkeys(leading.values())}
        chosen = {call: draws[shape] for call, shape in leading.items()}
        routed = self._drawn_subset(step, step.noise.generator("subset"))
        spare = random_channels(step, "uniform", step.noise.generator("spare"))
        return _Merged(chosen, {call: routed[call] | chosen[call] for call in chosen}, spare)

    def _chosen(self, step: Step, shape: torch.Size) -> Tensor:
        generator = step.noise.generator("share", *shape[1:])
        return independent_subset(["all"], shape, self.share, generator, step.noise.share)["all"]
