"""Files that appear whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError

from spd_lightning.errors import UsageError

CACHE_VARIABLE = "SPD_LIGHTNING_CACHE"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM}
DISK_ERRORS = _NO_ROOM | _NOT_ALLOWED | {errno.EFBIG, errno.EIO}
"""What an operating system answers when a disk is full, protected, limited or broken."""


class WriteError(UsageError, OSError):
    """A file could not be written; what had its name before is untouched.

    Args:
        path: the file.
        number: the operating system's reason, an ``errno``.
    """

    def __init__(self, path: Path | str, number: int) -> None:
        way_out = "choose another folder"
        if number in _NO_ROOM:
            way_out = "make room, or choose another folder"
        elif number == errno.EFBIG:
            way_out = "raise the limit on file sizes (ulimit -f)"
        reason = os.strerror(number)
        self._line = f"{str(path)!r} cannot be written ({reason}); what was there before is untouched; {way_out}"
        super().__init__(self._line)
        self.errno, self.strerror = number, reason

    def __str__(self) -> str:
        return self._line


def disk_error(error: BaseException) -> int | None:
    """The ``errno`` of a disk that refuses, wherever a library has buried it; ``None`` for any other error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in DISK_ERRORS:
            return seen.errno
        seen = seen.__cause__ or seen.__context__
    told = re.search(r"\(os error (\d+)\)", str(error)) if isinstance(error, SafetensorError) else None
    return int(told[1]) if told else None


def cache_folder() -> Path:
    """``$SPD_LIGHTNING_CACHE``, else ``$XDG_CACHE_HOME/spd_lightning``, else ``~/.cache/spd_lightning``."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spd_lightning"


@contextmanager
def made_by_one(path: Path) -> Iterator[None]:
    """Let one process at a time look for a file of the cache and make it; the others wait.

    Args:
        path: the file; its folder is made, and a lock is kept beside it.

    Raises:
        UsageError: if the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            yield
    except OSError as error:
        raise UsageError(
            f"the cache folder {str(path.parent)!r} cannot be used ({error.strerror}); set {CACHE_VARIABLE}"
        ) from None


def is_file(path: Path) -> bool:
    """Whether a path names a regular file; a name that the system cannot even look up names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, a link to itself, a zero byte
        return False


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write beside the final name, flush to the disk, then rename: a reader never sees half a file.

    Args:
        path: the final name; its folder is made.

    Yields:
        A temporary path in the same folder, to be written by the caller.

    Raises:
        WriteError: if the disk is full, protected, limited or broken; a file of that name is as it was before.
    """
    aside = _free_name(path)
    try:
        with _told_of(path):
            yield aside
            _flush(aside)
            aside.chmod(0o644)
            aside.replace(path)
            _flush(path.parent)  # the new name itself must survive a power cut too
    finally:
        with suppress(OSError):  # a protected folder: the reason is on its way already
            aside.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Like :func:`written_whole` for a new folder: it appears with all of its files, or not at all.

    Args:
        path: the final name, which must be free; the folder around it is made.

    Yields:
        A folder beside it, to be filled by the caller.

    Raises:
        UsageError: if something of that name exists.
        WriteError: if the disk is full, protected, limited or broken; nothing is left behind.
    """
    check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise WriteError(path, error.errno or 0) from None
    try:
        with _told_of(path):
            yield aside
            for path_within in aside.rglob("*"):
                _flush(path_within)
                path_within.chmod(0o755 if path_within.is_dir() else 0o644)
            aside.chmod(0o755)
            check_free(path)  # a name that somebody else took meanwhile
            aside.rename(path)
            _flush(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn what a disk raises while something is written into a :class:`WriteError` that names the final path."""
    try:
        yield
    except Exception as error:
        number = disk_error(error)
        if number is None or isinstance(error, WriteError):
            raise
        raise WriteError(path, number) from None


def check_free(path: Path) -> None:
    """Refuse a name that is taken, so that nothing is overwritten.

    Raises:
        UsageError: naming it.
    """
    if os.path.lexists(path):
        raise UsageError(f"{str(path)!r} exists, and nothing is overwritten; name another, or move it away")


def _free_name(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise WriteError(path, error.errno or 0) from None
    os.close(handle)
    return Path(name)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_torch(content: Any, path: Path) -> None:
    """Save what ``torch.save`` can, whole or not at all.

    Args:
        content: tensors and plain containers.
        path: the final name; its folder is made.

    Raises:
        WriteError: as :func:`written_whole`.
    """
    import torch  # not above: TensorBoard's process reads run directories without it

    with written_whole(path) as aside, aside.open("wb") as file:  # given a name, torch would hide why writing failed
        torch.save(content, file)
