"""The config that a run directory keeps."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from spd_lightning.files.whole import written_whole


class RunConfig(SaveConfigCallback):
    """Saves the resolved config, whole; a resumed run keeps the first and adds ``config.resumed-N.yaml``."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose a free name, then save as usual; predictions are a file of their own, beside no run."""
        if stage == "predict":
            return
        self._folder, number = Path(trainer.log_dir or "."), 0
        while trainer.is_global_zero and not self.already_saved and (self._folder / self.config_filename).exists():
            number += 1
            self.config_filename = f"config.resumed-{number}.yaml"
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, on rank zero; half a config would make the run unreadable."""
        config = self.config.clone()
        config.pop("resume", None)  # a fact of the command, not of the run; other commands do not know it
        text = self.parser.dump(config, skip_none=False)
        with written_whole(self._folder / self.config_filename) as aside:
            aside.write_text(text)
