"""What of Lightning is used beyond its public interface, each with its reason; a test names them all.

A new release of Lightning is looked at here.
"""

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

SubprocessLauncher = _SubprocessScriptLauncher
"""Started processes, to say which of them failed; Lightning offers no list of them."""


def is_accumulating(trainer: Trainer) -> bool:
    """Whether gradients of this batch are added to before they are used; Lightning tells no hook."""
    return bool(trainer.fit_loop._should_accumulate())
