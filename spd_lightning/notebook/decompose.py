"""From a trained network to a decomposition and a verdict, in one call."""

import warnings
from collections.abc import Sequence
from typing import Any, get_args

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch import Callback
from torch import nn

from spd_lightning.callbacks import (
    AblationCheck,
    ComponentActivity,
    DecompositionProgressBar,
    FinalReport,
    ImportanceDistribution,
    InterruptGuard,
    TaskPerformance,
    TrainingHealth,
)
from spd_lightning.callbacks.knobs import knobs_of
from spd_lightning.callbacks.publishing import figures_of
from spd_lightning.errors import check_choice, check_whole
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import Loss, Noise, Step, guessed_distance
from spd_lightning.losses.reconstruction import measured_cost
from spd_lightning.losses.untuned import TOLERATED
from spd_lightning.methods import Decomposition, Merging, StochasticDecomposition, default_recipe
from spd_lightning.methods.default_recipe import LEARNING_RATE, STEPS
from spd_lightning.model import DecomposedModel, TargetCall
from spd_lightning.model.acceptance import taking
from spd_lightning.model.decomposed import ImportanceFactory
from spd_lightning.notebook.examples import Data, as_data_module, first_batch, prepared
from spd_lightning.runs.findings import Knobs
from spd_lightning.runs.notices import silence_notices

TERMS = ("faithfulness", "importance", "exponent", "adversary", "allowed")
"""Knobs that are arguments of losses."""


def decompose(
    network: nn.Module,
    data: Data,
    sites: dict[str, int],
    steps: int = STEPS,
    *,
    val: Data | None = None,
    call: TargetCall | None = None,
    distance: DistanceKind | None = None,
    tolerance: float = TOLERATED,
    losses: dict[str, Loss] | None = None,
    importance: ImportanceFactory | None = None,
    batch_size: int = 256,
    lr: float = LEARNING_RATE,
    seed: int = 0,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> DecomposedModel:
    """Take a trained network apart, judge the result, and print the verdict. Nothing is written to the disk.

    Args:
        network: the trained network; it is frozen and put into eval mode.
        data: examples as the network takes them: a tensor ``[examples, ...]``, a dataset, a loader or a data module.
        sites: patterns of module paths to components per site.
        steps: of training, preceded by a warm-up a tenth as long.
        val: data to judge on, which a data module brings itself; ``None`` keeps every tenth example for it.
        call: how a batch becomes the network's arguments; ``None`` for ``AutomaticCall``.
        distance: of outputs, ``"kl"`` for logits or ``"mse"``; ``None`` takes ``"kl"`` where the outputs seem to be
            logits: they fit labels of the data, or tokens of the input.
        tolerance: what random ablation of the unimportant may cost, as a share of what ablating everything costs. More
            of it gives fewer components. Terms that are given do not know of it.
        losses: terms in place of those of :func:`spd_lightning.losses.untuned_losses`; nothing is merged then.
        importance: builds the importance function; ``None`` for an MLP per site. Networks that read sequences want
            ``SiteTransformer``.
        batch_size: examples per step; of a loader or a data module its own.
        lr: learning rate of components, and of an importance function that is given; the MLP's is three times as high.
        seed: of the start, the masks and the order of the data.
        progress: whether a progress bar is shown.
        callbacks: more of them.

    Returns:
        The decomposition; its ``scores`` and ``figures`` are those of the test that followed training.

    Raises:
        UsageError: for a network, data or a value that cannot be used.
    """
    check_whole("steps", steps, least=1)
    check_choice("distance", distance, (None, *get_args(DistanceKind)))
    module_data = prepared(as_data_module(data, val, batch_size, seed), "fit", "test")
    first_batch(module_data.train_dataloader, "data", "training")
    batch = first_batch(module_data.test_dataloader, "data" if val is None else "val", "test")
    if losses is None:
        model = DecomposedModel(network, sites, call, seed=seed)
        distance = _checked_distance(model, batch, distance)
    recipe = default_recipe(distance or "mse", importance, tolerance=tolerance, lr=lr)
    own = {} if losses is None else {"losses": losses, "merging": Merging()}
    module = StochasticDecomposition(network, sites, call=call, seed=seed, **recipe | own)
    report = _Report(tolerance if losses is None else None)
    return _trained_and_judged(module, module_data, steps, progress, [report, *callbacks])


def _trained_and_judged(
    module: StochasticDecomposition,
    data: LightningDataModule,
    steps: int,
    progress: bool,
    callbacks: Sequence[Callback],
) -> DecomposedModel:
    with warnings.catch_warnings():
        silence_notices()
        trainer = _trainer(steps, progress, callbacks)
        trainer.fit(module, datamodule=data)
        trainer.test(module, datamodule=data, verbose=False)
    module.model.scores = _scores(trainer)
    module.model.figures = {name.removeprefix("test/"): figure for name, figure in figures_of(trainer).items()}
    return module.model


@torch.no_grad()
def _checked_distance(model: DecomposedModel, batch: Any, kind: DistanceKind | None) -> DistanceKind:
    """The distance that is asked for, or a guess; a :class:`UsageError` where there is none between all and nothing."""
    with taking(model.call, batch):
        output = model.clean(batch).output
    kind = guessed_distance(model.call, batch, output)[0] if kind is None else kind
    step = Step.of(model, batch, Noise(("cost",), next(model.target.parameters()).device))
    measured_cost(step, kind)
    return kind


def _trainer(steps: int, progress: bool, callbacks: Sequence[Callback]) -> Trainer:
    guard = InterruptGuard(sigterm=False)  # Ctrl-C ends training, not the session; SIGTERM ends both
    judging = [ComponentActivity(), AblationCheck(), TaskPerformance(), ImportanceDistribution()]
    shown = [DecompositionProgressBar()] if progress else []
    return bare_trainer(steps, [*shown, guard, TrainingHealth(), *judging, *callbacks], bar=progress)


def bare_trainer(steps: int, callbacks: Sequence[Callback], bar: bool = False, **others: Any) -> Trainer:
    """A trainer in this process that writes nothing.

    Args:
        steps: of training.
        callbacks: all there are.
        bar: whether a progress bar may be shown.
        others: further arguments of Lightning's ``Trainer``.
    """
    return Trainer(
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=bar,
        inference_mode=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        **others,
    )


class _Report(FinalReport):
    """The verdict, with advice in the words of the call.

    Args:
        tolerance: of :func:`decompose`; ``None`` where it was given losses.
    """

    def __init__(self, tolerance: float | None) -> None:
        super().__init__()
        self._tolerance = tolerance

    def knobs(self, trainer: Trainer, module: Decomposition) -> Knobs:
        """Arguments of :func:`decompose`."""
        found = knobs_of(trainer, module)
        steps, rate = f"steps (now {trainer.max_steps})", f"lr (now {module.optimization.lr:g})"
        terms = {name: getattr(found, name).replace("model.", "") for name in TERMS}
        if self._tolerance is not None:
            terms |= {"faithfulness": "", "exponent": "", "importance": f"tolerance (now {self._tolerance:g})"}
            terms["allowed"] = terms["importance"]
        add = "add a term to losses, Reconstruction(sources='adversarial', adversary_steps=4)"
        return Knobs(steps=steps, warmup="", rate=rate, new_adversary=add, **terms)


def _scores(trainer: Trainer) -> dict[str, float]:
    found = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return {name.removeprefix("test/"): value for name, value in found.items() if name.startswith("test/")}
