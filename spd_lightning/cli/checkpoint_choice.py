"""Which checkpoint ``--ckpt_path`` means."""

from os.path import isdir
from pathlib import Path

from spd_lightning.cli.notices import tell
from spd_lightning.cli.resuming import newest_intact
from spd_lightning.errors import UsageError
from spd_lightning.files.whole import is_file

LAST = "last"
FOLDER = "checkpoints"
SUFFIXES = (".ckpt", ".pt", ".pth", "")
WANTED = "--ckpt_path takes a .ckpt file, a run directory such as runs/tms/version_0, or last"


def chosen_checkpoint(path: Path) -> Path:
    """The file that a path means: itself or, of a run directory, the newest checkpoint that is whole.

    Args:
        path: as given, but for ``last``.

    Returns:
        A file; which one is told if a directory was given.

    Raises:
        UsageError: if there is none; the message says what is there and what is wanted.
    """
    check_place(path)
    if not isdir(path):
        return path
    found = newest_intact(run_directory(path))
    if found is None:
        raise UsageError(f"no checkpoint in {str(path)!r} is intact; {WANTED}")
    tell(f"takes {found[0]}, step {found[1].get('global_step', 'unknown')}")
    return found[0]


def run_directory(path: Path) -> Path:
    """The run that a checkpoint, its folder or the run directory itself belongs to."""
    if not isdir(path):
        return path.parent.parent
    return path.parent if path.name == FOLDER else path


def check_place(path: Path) -> None:
    """Refuse what can be no checkpoint by the look of it.

    Raises:
        UsageError: if there is nothing, a file of another kind, or a directory without checkpoints.
    """
    if isdir(path):
        _check_directory(path)
    elif not is_file(path):
        raise UsageError(f"checkpoint {str(path)!r} does not exist; {WANTED}")
    elif path.suffix not in SUFFIXES:
        raise UsageError(f"{str(path)!r} is a {path.suffix} file, no checkpoint; {WANTED}")


def _check_directory(path: Path) -> None:
    if any((run_directory(path) / FOLDER).glob("*.ckpt")):
        return
    runs = sorted(path.glob(f"**/{FOLDER}/*.ckpt"), key=lambda found: found.stat().st_mtime_ns)
    hint = f"the newest below it is {str(runs[-1].parent.parent)!r}" if runs else WANTED
    raise UsageError(f"{str(path)!r} is a directory without checkpoints; {hint}")
