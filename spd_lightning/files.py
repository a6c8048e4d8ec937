"""Files that appear whole or not at all, and tensors read without running code."""

import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from spd_lightning.errors import UsageError

CACHE_VARIABLE = "SPD_LIGHTNING_CACHE"


def cache_folder() -> Path:
    """``$SPD_LIGHTNING_CACHE``, else ``$XDG_CACHE_HOME/spd_lightning``, else ``~/.cache/spd_lightning``."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spd_lightning"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write beside the final name, flush, then rename: a reader never sees half a file.

    Args:
        path: the final name; its folder is made.

    Yields:
        A temporary path in the same folder, to be written by the caller.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_pickled(path: Path, what: str) -> Any:
    """Load a torch file without unpickling objects.

    Args:
        path: the file.
        what: what it should be, for messages, e.g. ``"checkpoint"``.

    Returns:
        Tensors and plain containers.

    Raises:
        UsageError: if the file is missing, damaged, or holds anything but tensors and plain data.
    """
    if not path.is_file():
        raise UsageError(f"{what} {str(path)!r} does not exist")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses about foreign pickles; ours is the one line below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() and zipfile.is_zipfile(path):
            raise UsageError(f"{what} {str(path)!r} holds objects other than tensors and plain data; refused") from None
        raise UsageError(f"{what} {str(path)!r} is damaged or not a torch file") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError):
        raise UsageError(f"{what} {str(path)!r} is damaged or not a torch file") from None


def read_safetensors(path: Path, what: str) -> dict[str, Tensor]:
    """Load a safetensors file.

    Args:
        path: the file.
        what: what it should be, for messages.

    Returns:
        Tensors by name.

    Raises:
        UsageError: if the file is missing or damaged.
    """
    if not path.is_file():
        raise UsageError(f"{what} {str(path)!r} does not exist")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError):
        raise UsageError(f"{what} {str(path)!r} is damaged or not a safetensors file") from None


def read_state(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Load a state dict from ``.safetensors`` or a torch file.

    Args:
        path: the file; of a checkpoint the entry ``state_dict`` is used.
        prefix: kept names start with it; it is taken off.

    Returns:
        Tensors by name.

    Raises:
        UsageError: if the file is missing, damaged, or holds no tensors of that prefix.
    """
    if path.suffix == ".safetensors":
        content: Any = read_safetensors(path, "target weights")
    else:
        content = read_pickled(path, "target weights")
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UsageError(f"target weights {str(path)!r}: not a state dict of tensors")
    state = {name.removeprefix(prefix): tensor for name, tensor in content.items() if name.startswith(prefix)}
    if not state:
        raise UsageError(f"target weights {str(path)!r}: no name starts with {prefix!r}")
    return state
