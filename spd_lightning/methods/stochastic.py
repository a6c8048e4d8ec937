"""Stochastic Parameter Decomposition as a LightningModule."""

import math
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import lightning
import torch
from torch import Tensor, nn
from tqdm import tqdm

from spd_lightning.errors import UsageError, check_flag
from spd_lightning.fingerprint import fingerprint
from spd_lightning.functional import WeightedBatch
from spd_lightning.functional.sigmoids import Leak
from spd_lightning.losses import Faithfulness, ImportanceMinimality, Loss, Noise, Reconstruction, Step
from spd_lightning.methods.base import CHECKPOINT_FORMAT, CHECKPOINT_KEY, KEPT_STEP, Decomposition
from spd_lightning.methods.divergence import (
    Running,
    fault,
    gradient_fault,
    keep,
    looks_finite,
    network_input,
)
from spd_lightning.methods.optimization import Optimization, Warmup
from spd_lightning.methods.speed import Speed, Tables
from spd_lightning.model import DecomposedModel, FastPass, GateMLP
from spd_lightning.model.components import Init
from spd_lightning.model.decomposed import CIFactory, TiedUpdates
from spd_lightning.targets import TargetRecipe

STEPS_PER_TABLE_CHECK = 500
STEPS_PER_LOOK = 50


def paper_losses() -> dict[str, Loss]:
    """The four terms of the SPD paper, with its coefficients for the 5-2 toy model."""
    return {
        "faithfulness": Faithfulness(),
        "stochastic": Reconstruction(),
        "layerwise": Reconstruction(routing="layerwise"),
        "importance": ImportanceMinimality(coefficient=3e-3),
    }


class StochasticDecomposition(Decomposition):
    """Trains components to sum to the target's weights and to survive random ablation of the unimportant ones.

    Each step runs the target once, predicts causal importances, and minimises the weighted sum of ``losses``. A batch
    is the target's input, or a tuple or list that begins with it; a :class:`WeightedBatch` weighs its examples.

    Args:
        target: the network to take apart, an ``nn.Module``.
        sites: ``fnmatch`` patterns of module paths to components per site ``C``.
        recipe: where the target's weights come from; ``null`` if it has them.
        losses: the terms, by the name they are logged under; ``null`` for the paper's four.
        ci_fn: causal-importance function of a site.
        leak: lower-leaky sigmoid, ``one_sided`` (later library) or ``linear`` (paper).
        use_delta: whether the unexplained rest is an extra component (later library; off in the paper).
        init: start of the components, ``random`` (later library), ``overlap`` (paper) or ``examples`` of the first
            batch (ours; exact where it can be, so that it needs no warm-up).
        ties: sites that are another site's transpose.
        tied_updates: ``once`` (ours) or ``twice`` (paper's code) a step.
        optimization: optimiser, schedule and clipping.
        warmup: faithfulness warm-up before the first step (later library; none in the paper).
        save_target: whether checkpoints hold the target's weights; its fingerprint is always kept.
        speed: how a training step is computed, ``fast`` or ``plain``.
        seed: seeds components, importance functions and masks. On the command line it follows ``seed_everything``.

    Raises:
        UsageError: for arguments that cannot work together.
    """

    def __init__(
        self,
        target: nn.Module,
        sites: dict[str, int],
        recipe: TargetRecipe | None = None,
        losses: dict[str, Loss] | None = None,
        ci_fn: CIFactory = GateMLP,
        leak: Leak = "one_sided",
        use_delta: bool = True,
        init: Init = "random",
        ties: dict[str, str] | None = None,
        tied_updates: TiedUpdates = "once",
        optimization: Optimization = Optimization(),  # noqa: B008 (frozen)
        warmup: Warmup = Warmup(),  # noqa: B008 (frozen)
        save_target: bool = True,
        speed: Speed = Speed(),  # noqa: B008 (frozen)
        seed: int = 0,
    ) -> None:
        check_flag("save_target", save_target)
        model = DecomposedModel(target, sites, ci_fn, leak, use_delta, init, ties, tied_updates, seed)
        super().__init__(model, recipe, optimization, warmup, save_target, seed)
        self.losses = nn.ModuleDict(paper_losses() if losses is None else losses)
        if not any(loss.coefficient for loss in self._terms().values()):
            raise UsageError("losses: at least one term must have a coefficient above 0")
        self.sites, self.leak, self.use_delta = dict(sites), leak, use_delta
        self.init, self.ties, self.tied_updates = init, ties, tied_updates
        self.speed, self.fused = speed, speed.step == "fast"
        self.tables = Tables(speed)
        self.remember()

    def on_fit_start(self) -> None:
        """Say so if compiled kernels are missing, then warm up."""
        self._tell(self.speed.notice())
        super().on_fit_start()

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One step.

        Returns:
            ``loss``, the weighted sum, and ``terms``, each term unweighted and detached, by name.

        Raises:
            UsageError: if a term is not finite; the step is not taken, but kept in a file to repeat it from. (Where
                looking would make the host wait for the device, only every 50th step is looked at, and no checkpoint
                of such a state is written.)
        """
        if self.global_step == batch_idx == 0 and self.model.init == "examples" and not self._started:
            self.start_from_examples(network_input(batch))
        if self.fused and self.global_step % STEPS_PER_TABLE_CHECK == 0:
            self._check_tables(batch)
        micro_batch = batch_idx % self.trainer.accumulate_grad_batches
        noise = Noise((self.seed, "train", self.global_step, micro_batch, self.global_rank), self.device)
        self._running = Running(batch, noise.key, self.global_step / max(self.trainer.max_steps - 1, 1))
        total, terms = self.objective(batch, noise, self._running.progress)
        if self._looks:
            self._check_finite(total, terms)
        return {"loss": total, "terms": terms}

    def on_after_backward(self) -> None:
        """Check the gradients before they reach the parameters.

        Raises:
            UsageError: if one is not finite; the step is not taken, but kept in a file to repeat it from.
        """
        if not self._looks or looks_finite(self._trained):
            return
        found = gradient_fault(self.model)
        if found is not None:
            self._diverged(f"the gradient became non-finite at step {self.global_step}; {found}{self._by_term()}")

    def objective(self, batch: Any, noise: Noise, progress: float = 0.0) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the terms on one batch, computed as ``speed`` says; needs no trainer.

        Args:
            batch: as :meth:`training_step` takes it.
            noise: where masks and subsets are drawn from.
            progress: fraction of training done, for schedules.

        Returns:
            The sum, with gradient, and each term unweighted and detached, by name.
        """
        terms = self._evaluated(batch, noise, progress)
        stacked = torch.stack(list(terms.values()))
        coefficients = [self._terms()[name].coefficient_at(progress) for name in terms]
        total = torch.dot(stacked, stacked.new_tensor(coefficients))
        return total, {name: term.detach() for name, term in terms.items()}

    def _evaluated(self, batch: Any, noise: Noise, progress: float) -> dict[str, Tensor]:
        x, weights = network_input(batch), batch.weights if isinstance(batch, WeightedBatch) else None
        if self.fused:
            step = Step.fast_of(self.model, x, noise, progress, weights, self.tables.options)
        else:
            step = Step.of(self.model, x, noise, progress, weights)
        return {name: loss(step.named(name)) for name, loss in self._terms().items()}

    def _check_tables(self, batch: Any) -> None:
        probe = FastPass(self.model, network_input(batch), self.tables.options)
        self._tell(self.tables.check(probe, at_start=self.global_step == 0))

    def _tell(self, line: str | None) -> None:
        if line is not None and self.trainer.is_global_zero:
            tqdm.write(line, file=sys.stderr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the node count in use, which a resumed run must go on with."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["table_nodes"] = self.tables.nodes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit, then go on with its node count."""
        super().on_load_checkpoint(checkpoint)
        self.tables.nodes = checkpoint[CHECKPOINT_KEY].get("table_nodes", self.tables.nodes)

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Step]:
        """Clean pass and importances of one batch, for the callbacks that look on."""
        return {"step": self.step(batch, Noise((self.seed, "evaluation", batch_idx, self.global_rank), self.device))}

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Step]:
        """The same as :meth:`validation_step`."""
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Lower-leaky causal importances ``[..., C]`` per site."""
        clean = self.model.clean(network_input(batch))
        importances = self.model.causal_importance(clean.site_inputs)
        return {name: importance.lower for name, importance in importances.items()}

    def step(self, batch: Any, noise: Noise, progress: float = 0.0) -> Step:
        """See a batch once, for all losses or callbacks."""
        return Step.of(self.model, network_input(batch), noise, progress)

    def _terms(self) -> dict[str, Loss]:
        return dict(self.losses.items())  # type: ignore[arg-type]

    @property
    def _looks(self) -> bool:
        return self.device.type == "cpu" or self.global_step % STEPS_PER_LOOK == 0

    @cached_property
    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _check_finite(self, total: Tensor, terms: dict[str, Tensor]) -> None:
        if math.isfinite(total.item()):
            return
        odd = [f"loss term {name!r} became {term.item()}" for name, term in terms.items() if not term.isfinite()]
        told = (odd or [f"the weighted sum of the losses became {total.item()}"])[0]
        where = fault(self.model, self._running.batch)
        self._diverged(f"{told} at step {self.global_step}; {where}")

    def _by_term(self) -> str:
        """The first term that alone gives such a gradient, each taken again with the same noise."""
        running = self._running
        noise = Noise(running.key, self.device)
        for name, loss in self._terms().items():
            self.model.zero_grad()
            with torch.enable_grad():
                term = self._evaluated(running.batch, noise, running.progress)[name]
                (loss.coefficient_at(running.progress) * term).backward()  # type: ignore[no-untyped-call]
            if gradient_fault(self.model) is not None:
                return f", from loss term {name!r}"
        return ""

    def _diverged(self, told: str) -> NoReturn:
        stopped = f"{told}; training stopped before that step, earlier checkpoints are kept"
        kept = "" if self.trainer.fast_dev_run else f"; {self._keep(told)}"  # type: ignore[attr-defined]
        raise UsageError(f"{stopped}; try a lower model.optimization.lr or clipping{kept}")

    def _keep(self, told: str) -> str:
        """Write what the step can be repeated from, in the form of a checkpoint; the parameters are those before it."""
        stamp = {"format": CHECKPOINT_FORMAT, "target_fingerprint": fingerprint(self.target)}
        content = {
            "state_dict": self.state_dict(),
            "optimizer_states": [optimizer.state_dict() for optimizer in self.trainer.optimizers],
            "hyper_parameters": dict(self.hparams),
            "epoch": self.current_epoch,
            "pytorch-lightning_version": lightning.__version__,
            "global_step": self.global_step,
            CHECKPOINT_KEY: stamp | {"table_nodes": self.tables.nodes},
            KEPT_STEP: self._running.content(told, self.seed),
        }
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        return keep(folder, self.global_step, content)
