"""How TensorBoard groups the scalars."""

from lightning.pytorch import Callback, LightningModule, Trainer

from spd_lightning.callbacks.publishing import tensorboard

_PENALTIES = "importance|frequency|contributions|simplicity"  # by the names that the shipped configs give them
_LAYOUT = {
    "Objective": {
        "reconstruction": ["Multiline", [rf"train/(?!lr|loss|gradient_norm|faithfulness|{_PENALTIES}).*"]],
        "faithfulness": ["Multiline", [r"train/faithfulness.*"]],
        "importance": ["Multiline", [rf"train/({_PENALTIES}).*"]],
        "total": ["Multiline", ["train/loss"]],
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
    """Writes a custom-scalars layout: objective, components in use, recovery, ablation."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the layout once, on rank zero; a continued run has it.

        Not earlier: a run that starts anew among older events first declares them void, up to its own beginning.
        """
        logger = tensorboard(trainer)
        if logger is not None and trainer.is_global_zero and trainer.ckpt_path is None:
            logger.experiment.add_custom_scalars(_LAYOUT)
