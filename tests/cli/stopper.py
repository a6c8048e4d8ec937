"""Callbacks that tests name in configs."""

from lightning.pytorch import Callback


class StopAfter(Callback):
    """Interrupts the run as Ctrl-C does, after a number of steps."""

    def __init__(self, steps: int = 4) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(trainer.checkpoint_callback.dirpath + "/last.ckpt")
            trainer.should_stop = True


class Poison(Callback):
    """Makes the components NaN when training starts."""

    def on_train_start(self, trainer, pl_module):
        pl_module.model.components["linear1"].V.data[0, 0] = float("nan")
