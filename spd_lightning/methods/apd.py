"""Attribution-based Parameter Decomposition, the older method, as a LightningModule: the baseline."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spd_lightning.errors import UsageError, check_flag, check_number
from spd_lightning.files.describe import describe
from spd_lightning.functional import WeightedBatch
from spd_lightning.lightning_private import has_trainer
from spd_lightning.losses import Faithfulness, Loss, Minimality, Simplicity, Step
from spd_lightning.losses.sharing import shared_topk
from spd_lightning.methods.decomposition import Decomposition
from spd_lightning.methods.optimization import Optimization
from spd_lightning.model import AttributedForm, AttributedModel, AttributedPass, Components, Form, Site, TargetCall
from spd_lightning.model.attributed import AttributionSource
from spd_lightning.targets import TargetRecipe


def toy_losses() -> dict[str, Loss]:
    """The three terms of the APD paper, with its coefficients for the 5-2 toy model."""
    return {"faithfulness": Faithfulness(), "minimality": Minimality(), "simplicity": Simplicity(coefficient=0.7)}


class AttributionDecomposition(Decomposition):
    """Trains components that span all sites to sum to the weights, few per example, each simple (APD, 2501.14926).

    Each step attributes the target's output to every component, keeps the batch's largest attributions, runs the
    network on those components alone, and minimises the weighted sum of ``losses``.

    Args:
        target: the network to take apart, an ``nn.Module``.
        sites: ``fnmatch`` patterns of module paths.
        n_components: ``C``, the number of components; each has a matrix in every site.
        k: mean number of components per example that a batch keeps, above 0 and at most ``C``.
        recipe: where the target's weights come from; ``null`` if it has them.
        losses: the terms, by the name they are logged under; ``null`` for the paper's of the 5-2 toy model.
        rank: rank-one terms of a component in a site, at most one above the matrix's rank (which the released code's
            toy models have); ``null`` for as many as that rank.
        attribution_source: gradients of the ``target`` (released code) or of the ``components`` together (the paper's
            5-2 toy model).
        unit_norm: whether every read vector is kept at length 1 (released code, residual MLP of one layer).
        ties: sites that are another site's transpose.
        init_scale: factor of the Glorot-normal start of each component; below 1 for starts as narrow as the
            released code's.
        fast: whether training steps take their fast form, where the target has a residual stream that is only read
            linearly, or always the plain, readable one.
        optimization: optimiser, schedule and clipping.
        call: how a batch becomes the target's arguments, see :class:`StochasticDecomposition`.
        kinds: kinds of sites of your own.
        save_target: whether checkpoints hold the target's weights, whose fingerprint is always kept; ``null`` leaves
            out those of more than ten million parameters.
        seed: seeds the components. On the command line it follows ``seed_everything``.

    Raises:
        UsageError: for arguments that cannot work together.
    """

    model: AttributedModel
    method = "apd"
    fused = True
    predicted = "Attributions, as shares of each example's largest,"

    def __init__(
        self,
        target: nn.Module,
        sites: list[str],
        n_components: int,
        k: float,
        recipe: TargetRecipe | None = None,
        losses: dict[str, Loss] | None = None,
        rank: int | None = None,
        attribution_source: AttributionSource = "target",
        unit_norm: bool = False,
        ties: dict[str, str] | None = None,
        init_scale: float = 1.0,
        fast: bool = True,
        optimization: Optimization = Optimization(),  # noqa: B008 (frozen)
        call: TargetCall | None = None,
        kinds: list[type[Site]] | None = None,
        save_target: bool | None = None,
        seed: int = 0,
    ) -> None:
        check_flag("unit_norm", unit_norm)
        check_number("k", k)
        check_flag("fast", fast)
        model = AttributedModel(
            target, sites, n_components, rank, attribution_source, ties, init_scale, seed, call, kinds
        )
        if not 0 < k <= n_components:
            raise UsageError(f"k must be above 0 and at most n_components ({n_components}), got {k}")
        predicted, plain = ("importance_lr", "clip_importance", "importance_weight_decay"), Optimization()
        if any(getattr(optimization, name) not in (None, getattr(plain, name)) for name in predicted):
            raise UsageError(
                "optimization: importance_lr, clip_importance and importance_weight_decay are for predicted "
                "importances; this method has none, leave them out"
            )
        super().__init__(model, recipe, optimization, save_target, seed)
        self.set_losses(toy_losses() if losses is None else losses)
        self.sites, self.n_components, self.k, self.rank = list(sites), n_components, k, rank
        self.attribution_source, self.unit_norm = attribution_source, unit_norm
        self.ties, self.init_scale, self.fast, self.kinds = ties, init_scale, fast, kinds
        self.remember()

    def prepare_data(self) -> None:
        """Check that gradients are possible in evaluation; train the target, if no earlier run has."""
        if has_trainer(self) and self.trainer.validate_loop.inference_mode:
            raise UsageError("attributions need gradients in evaluation; set trainer.inference_mode: false")
        super().prepare_data()

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One step, see :meth:`Decomposition.training_step`."""
        if self.global_step == 0:
            self._check_budget(batch)
        if self.unit_norm:
            self._normalise()
        return super().training_step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Take from the gradient of a read vector of length 1 what would only change its length."""
        if not self.unit_norm:
            return
        for parts in self._owners():
            gradient, read = parts.V.grad, parts.V.detach()
            if gradient is not None:
                gradient -= (gradient * read).sum(0) * read

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        return super().arguments() | {"call": describe(self.model.call)}

    def form_of(self, batch: Any) -> Form:
        """The fast form where the target allows one, else the plain one."""
        with torch.autocast(self.device.type, enabled=False):  # which components are kept hangs on small differences
            suits = self.fast and AttributedPass.suits(self.model, batch)
            return AttributedPass(self.model, batch) if suits else AttributedForm(self.model, batch)

    def readable_form_of(self, batch: Any) -> Form:
        """The plain form."""
        return AttributedForm(self.model, batch)

    def chosen(self, step: Step) -> Step:
        """The batch's largest attributions are what it keeps, ``k`` components per example."""
        assert isinstance(step.form, AttributedForm)
        scores = step.form.scores
        step.form.choose(shared_topk(scores, self.k, step.weights_of(scores)))
        return step

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Attributions as shares of each example's largest, ``[..., C]``, one for all sites."""
        return {"all sites": next(iter(super().predict_step(batch, batch_idx).values()))}

    def _check_budget(self, batch: Any) -> None:
        """Refuse a ``k`` so small that no component fits in a batch."""
        if isinstance(batch, WeightedBatch):
            rows = 1 / float(batch.weights.min())
        else:
            rows = self.model.clean(batch).output[..., 0].numel() * self.trainer.world_size
        if self.k * rows < 1 - 1e-6:
            raise UsageError(f"k: {self.k} per example keeps no component of a batch of {rows:.0f}; raise it")

    @torch.no_grad()
    def _normalise(self) -> None:
        for parts in self._owners():
            parts.V /= parts.V.norm(dim=0)

    def _owners(self) -> list[Components]:
        """Components with parameters of their own."""
        return [parts for parts in self.model.components.values() if parts.owns_factors]
