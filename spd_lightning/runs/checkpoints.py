"""Run directories and the checkpoints in them."""

import os
import tempfile
from pathlib import Path
from typing import Any

from spd_lightning.errors import UsageError
from spd_lightning.files.tensors import read_pickled
from spd_lightning.methods.checkpointed import CHECKPOINT_KEY, check_format


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of ours without running code from it, or raise a one-line :class:`UsageError`."""
    content = read_pickled(path, "checkpoint")
    check_format(content.get(CHECKPOINT_KEY) if isinstance(content, dict) else None, f"checkpoint {str(path)!r}")
    assert isinstance(content, dict)
    return content


def newest_checkpoint(folder: Path) -> Path:
    """The ``last.ckpt`` that was written last under ``folder/version_*/checkpoints``.

    Args:
        folder: all versions of a run.

    Returns:
        The checkpoint.

    Raises:
        UsageError: if there is none.
    """
    found = sorted(folder.glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(f"--ckpt_path last: no run under {str(folder)!r} has a checkpoint yet")
    return found[-1]


def run_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint lies in, if it lies in one."""
    run = checkpoint.parent.parent
    return run if (run / "config.yaml").is_file() else None


def check_writable(folder: Path, setting: str = "trainer.logger.init_args.save_dir") -> None:
    """Raise a one-line :class:`UsageError` unless files can be made below a folder. Leaves nothing behind.

    Args:
        folder: which need not exist.
        setting: what the user chooses it by.
    """
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UsageError(f"the run directory {str(folder)!r} cannot be written ({reason}); set {setting}") from None
