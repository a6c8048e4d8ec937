"""How TensorBoard groups the scalars, and which it draws."""

from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from spd_lightning.callbacks.publishing import tensorboard

_DRAW = "log_metrics"
_PENALTIES = "importance|frequency|contributions|simplicity"  # by the names that the shipped configs give them
_LAYOUT = {
    "Headline": {
        "total loss": ["Multiline", ["train/loss"]],
        "L0 over all sites": ["Multiline", [r"headline/l0$"]],
        "relative distances: shares of what ablating everything costs": [
            "Multiline",
            [r"headline/relative_distance/.*"],
        ],
        "L0 as a share of what is alive": ["Multiline", [r"headline/l0_of_alive$"]],
    },
    "Objective": {
        "reconstruction": ["Multiline", [rf"train/(?!lr|loss|gradient_norm|faithfulness|{_PENALTIES}).*"]],
        "faithfulness": ["Multiline", [r"train/faithfulness.*"]],
        "importance": ["Multiline", [rf"train/({_PENALTIES}).*"]],
        "learning rate": ["Multiline", ["train/lr"]],
        "gradient norm before clipping": ["Multiline", [r"train/gradient_norm/.*"]],
    },
    "Components in use": {
        "L0 per site": ["Multiline", [r"val/l0/.*"]],
        "alive per site": ["Multiline", [r"val/alive/.*"]],
    },
    "Recovery of known mechanisms": {
        "MMCS and chance": ["Multiline", [r"val/recovery/.*mmcs"]],
        "ML2R": ["Multiline", [r"val/recovery/.*ml2r$"]],
        "contradictions": ["Multiline", [r"val/recovery/.*contradictions.*"]],
        "neuron contributions, Pearson r": ["Multiline", [r"val/recovery/.*pearson"]],
    },
    "Ablation": {"distance per regime": ["Multiline", [r"val/ablation/.*"]]},
}


class TensorBoardLayout(Callback):
    """Writes a custom-scalars layout: headline, objective, components in use, recovery, ablation.

    Lines of a chart stand in the order in which the scores are first logged, which is the model's.
    A test, or a validation of its own, draws no charts, which would be single dots: its scores are in ``metrics.json``,
    in other loggers, and with a final report among TensorBoard's texts.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have TensorBoard draw scalars in training only."""
        for logger in _tensorboards(trainer):
            vars(logger).pop(_DRAW, None)
            if stage != "fit":  # on the logger, since it is Lightning that passes on what was logged
                vars(logger)[_DRAW] = _draw_nothing

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the loggers as they were."""
        for logger in _tensorboards(trainer):
            vars(logger).pop(_DRAW, None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the layout once, on rank zero; a continued run has it.

        Not earlier: a run that starts anew among older events first declares them void, up to its own beginning.
        """
        logger = tensorboard(trainer)
        if logger is not None and trainer.is_global_zero and trainer.ckpt_path is None:
            logger.experiment.add_custom_scalars(_LAYOUT)


def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _draw_nothing(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Stand in for ``log_metrics``."""
