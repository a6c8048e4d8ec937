"""The public artefact at the end of training."""

from lightning.pytorch import Callback, Trainer

from spd_lightning.artefact.export import save_decomposition
from spd_lightning.callbacks.publishing import run_folder
from spd_lightning.methods import Decomposition


class ExportDecomposition(Callback):
    """Writes ``components.safetensors`` and ``config.json`` into the run directory when training is complete.

    A run that was interrupted or failed exports nothing; its checkpoints remain.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Export on rank zero; also where a resumed run finds that every step is done already."""
        if trainer.global_step < trainer.max_steps:
            return
        folder, state = run_folder(trainer), pl_module.whole_state()
        if folder is not None:
            save_decomposition(pl_module.model, folder, pl_module.save_target, state)
