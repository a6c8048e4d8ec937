"""Stochastic Parameter Decomposition as a LightningModule."""

import sys
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

from spd_lightning.files.describe import check_kept, describe
from spd_lightning.functional.initialisation import Basis
from spd_lightning.functional.sigmoids import Leak
from spd_lightning.losses import Loss, Noise, Step, untuned_losses
from spd_lightning.losses.sharing import largest_over_processes, rows_of_all
from spd_lightning.methods.checkpointed import CHECKPOINT_KEY
from spd_lightning.methods.decomposition import Decomposition
from spd_lightning.methods.last_use import LastUse
from spd_lightning.methods.merging import Merging
from spd_lightning.methods.optimization import Optimization, Warmup, forget_momentum, is_exact
from spd_lightning.methods.speed import MAX_NODES, Speed, Tables
from spd_lightning.model import (
    DecomposedModel,
    FastForm,
    FastOptions,
    Form,
    ImportanceFunction,
    PerSite,
    PlainForm,
    Site,
    SiteFunction,
    TargetCall,
)
from spd_lightning.model.acceptance import taking
from spd_lightning.model.components import FROM_EXAMPLES, Init
from spd_lightning.model.decomposed import ImportanceFactory, TiedUpdates
from spd_lightning.targets import TargetRecipe

STEPS_PER_TABLE_CHECK = 500


class StochasticDecomposition(Decomposition):
    """Trains components to sum to the target's weights and to survive random ablation of the unimportant ones.

    Each step runs the target once, predicts causal importances, and minimises the weighted sum of ``losses``.

    Args:
        target: the network to take apart, an ``nn.Module``.
        sites: ``fnmatch`` patterns of module paths to components per site ``C``; a part of a fused matrix is named in
            brackets, ``"*.c_attn[q]"``.
        recipe: where the target's weights come from; ``null`` if it has them.
        losses: the terms, by the name they are logged under; ``null`` for those of
            :func:`spd_lightning.losses.untuned_losses`, which need no tuning to a network; they were tested with the
            rest of :func:`spd_lightning.methods.default_recipe.default_recipe` alone.
        call: how a batch becomes the target's arguments; ``null`` for a tensor, the first part of a tuple, or a mapping
            whose entries the target takes by name.
        importance: the importance function, such as ``PerSite`` or ``SiteTransformer``.
        leak: lower-leaky sigmoid, ``one_sided`` (later library) or ``linear`` (paper).
        use_delta: whether the unexplained rest is an extra component (later library; off in the paper).
        init: start of the components, ``random`` (later library), ``overlap`` (paper), ``examples`` of the first
            batch (ours; exact where it can be, so that it needs no warm-up), or ``adaptive`` (ours): examples for sites
            that features reach one at a time, ``random`` for others. Or, without warm-up, a basis to hold learned
            components against: ``neurons``, ``singular`` vectors or random ``directions``; with ``optimization.lr: 0``
            they stay, and importances alone are learned.
        ties: sites whose weight is another site's, as it is or transposed.
        tied_updates: ``once`` (ours) or ``twice`` (paper's code) a step.
        optimization: optimiser, schedule and clipping.
        warmup: faithfulness warm-up before the first step, unless components are exact (later library; none in the
            paper).
        merging: from when on components that others can do without are merged into them (ours; never unless asked
            for).
        kinds: kinds of sites of your own.
        save_target: whether checkpoints hold the target's weights, whose fingerprint is always kept; ``null`` leaves
            out those of more than ten million parameters.
        speed: how a training step is computed, ``fast`` or ``plain``.
        seed: seeds components, importance functions and masks. On the command line it follows ``seed_everything``.

    Raises:
        UsageError: for arguments that cannot work together.
    """

    model: DecomposedModel

    def __init__(
        self,
        target: nn.Module,
        sites: dict[str, int],
        recipe: TargetRecipe | None = None,
        losses: dict[str, Loss] | None = None,
        call: TargetCall | None = None,
        importance: ImportanceFactory = PerSite,
        leak: Leak = "one_sided",
        use_delta: bool = True,
        init: Init = "random",
        ties: dict[str, str] | None = None,
        tied_updates: TiedUpdates = "once",
        optimization: Optimization = Optimization(),  # noqa: B008 (frozen)
        warmup: Warmup = Warmup(),  # noqa: B008 (frozen)
        merging: Merging = Merging(),  # noqa: B008 (frozen)
        kinds: list[type[Site]] | None = None,
        save_target: bool | None = None,
        speed: Speed = Speed(),  # noqa: B008 (frozen)
        seed: int = 0,
    ) -> None:
        model = DecomposedModel(target, sites, call, importance, leak, use_delta, init, ties, tied_updates, kinds, seed)
        super().__init__(model, recipe, optimization, save_target, seed)
        for part in model.importance_function.modules():
            if isinstance(part, (ImportanceFunction, SiteFunction)):
                check_kept(part, "importance")
        self.set_losses(untuned_losses() if losses is None else losses)
        self.warmup, self.merging = warmup, merging
        self.sites, self.leak, self.use_delta = dict(sites), leak, use_delta
        self.init, self.ties, self.tied_updates, self.kinds = init, ties, tied_updates, kinds
        self.speed, self.fused = speed, speed.step == "fast"
        self.tables, self.last_use = Tables(speed), LastUse(self.model)
        self.remember()

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        described = {"importance": describe(self.model.importance_function), "call": describe(self.model.call)}
        return super().arguments() | described

    def on_fit_start(self) -> None:
        """Say so if compiled kernels are missing; warm up, unless components are trained or start from examples."""
        self._tell(self.speed.notice())
        later = self.model.init in (*FROM_EXAMPLES, *get_args(Basis))  # or never: a basis is what it is
        if self.trainer.ckpt_path is None and not later and not self._started:
            self._warm_up()

    def start_from_examples(self, batch: Any) -> None:
        """Start the components from the first batch, the same on every process, then run the warm-up.

        Args:
            batch: as the call takes it; put together from the rows of all processes.

        Raises:
            UsageError: if nothing but zeros reaches a site.
        """
        with self.whole_parameters():
            self.model.start_from_examples(rows_of_all(batch))
            self.keep_whole_parameters()
        self._warm_up()

    def _warm_up(self) -> None:
        """Warm up what is not exact; make sure that all processes start from the same numbers, whatever they run on."""
        with self.whole_parameters():
            exact = is_exact(self.model)
        if not exact:
            steps, shown = self.trainer.max_steps, self.trainer.is_global_zero
            self.warmup.run(self.model, steps, shown, self.with_whole_parameters)
        self._share_components()

    def _share_components(self) -> None:
        """Make rank zero's components those of all processes, where each holds them whole."""
        if self.trainer.world_size > 1 and not self.is_sharded:
            components = self.model.components
            components.load_state_dict(self.trainer.strategy.broadcast(components.state_dict()))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One step, see :meth:`Decomposition.training_step`."""
        if self.global_step == batch_idx == 0 and self.model.init in FROM_EXAMPLES and not self._started:
            self.check_rows(batch)
            with taking(self.model.call, batch):
                self.start_from_examples(batch)
        self.check_once(batch)
        if self.micro_batch(batch_idx) == 0:
            self._move_components(batch)
        if self.fused and self.global_step % STEPS_PER_TABLE_CHECK == 0:
            self._check_tables(batch)  # of the components that the step is taken with
        return super().training_step(batch, batch_idx)

    @torch.no_grad()
    def _move_components(self, batch: Any) -> None:
        """Merge what others can do without, and in the end hand out what is left of the weights, where that is due."""
        if self.merging.is_due(self.global_step, self.progress):
            self._merge(batch)
        if self.merging.is_over(self.global_step, self.trainer.max_steps):
            with self.whole_parameters():
                self.merging.hand_out(self.model, self._unused())
                self.keep_whole_parameters()
            self._share_components()

    def _unused(self) -> dict[str, Tensor]:
        return self.last_use.before(self.global_step - self.merging.unused * self.trainer.max_steps)

    def _merge(self, batch: Any) -> None:
        """Merge as rank zero finds, and say so."""
        with self.whole_parameters():
            step = self.seen(batch, Noise((self.seed, "merging", self.global_step), self.device))
            merged = self.merging.merge(step, self._unused())
            self.keep_whole_parameters()
        self._share_components()
        if self.trainer.world_size > 1:
            merged = self.trainer.strategy.broadcast(merged)
        for site, gone in merged.items():
            forget_momentum(self.trainer.optimizers[0], self.model, site, gone)
        counts = ", ".join(f"{len(gone)} of {site}" for site, gone in merged.items())
        self._tell(f"step {self.global_step}: merged into other components: {counts}" if merged else None)

    def note(self, step: Step) -> None:
        """Remember when components were last important, if some may be merged one day."""
        if self.merging.is_on:
            self.last_use.note(step, self.global_step)

    def form_of(self, batch: Any) -> Form:
        """The fast or the plain form, as ``speed`` says."""
        return FastForm(self.model, batch, self.tables.options) if self.fused else PlainForm(self.model, batch)

    @property
    def checked_form(self) -> Callable[[Any], Form] | None:
        """The fast form where it is used; gates play no part in the check."""
        exact = FastOptions(nodes=0, compiled=False)
        return (lambda batch: FastForm(self.model, batch, exact)) if self.fused else None

    def readable_form_of(self, batch: Any) -> Form:
        """The plain form."""
        return PlainForm(self.model, batch)

    def _check_tables(self, batch: Any) -> None:
        with self.whole_parameters():
            probe = FastForm(self.model, batch, self.tables.options)
            self._tell(self.tables.check(probe, at_start=self.global_step == 0))
        if self.trainer.world_size > 1:  # as fine as any of them needs, so that all compute alike
            finest = largest_over_processes(self.tables.nodes or MAX_NODES + 1, self.device)
            self.tables.nodes = finest if finest <= MAX_NODES else 0

    def _tell(self, line: str | None) -> None:
        if line is not None and self.trainer.is_global_zero:
            tqdm.write(line, file=sys.stderr)

    def stamp(self) -> dict[str, Any]:
        """Add the node count in use and when components were last important, which a resumed run must go on with."""
        last_use = self.last_use.steps.cpu() if self.merging.is_on else None  # else it is not noted
        return super().stamp() | {"table_nodes": self.tables.nodes, "last_use": last_use}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit, then go on with what :meth:`stamp` added."""
        super().on_load_checkpoint(checkpoint)
        stamp = checkpoint[CHECKPOINT_KEY]
        self.tables.nodes = stamp.get("table_nodes", self.tables.nodes)
        if self.merging.is_on:
            self.last_use.load(stamp.get("last_use"), checkpoint["global_step"])
