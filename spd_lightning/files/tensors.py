"""Tensors read without running code, whoever wrote the file."""

import mmap
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import is_file

_ARCHIVE_START = b"PK\x03\x04"
_MEMORY_ON_REQUEST = re.compile(rb"c(__builtin__|builtins)\nbytearray\n")
"""The one global that torch allows in a pickle and that takes as much memory as the file likes to ask for."""


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
    if not is_file(path):
        raise UsageError(f"{what} {str(path)!r} does not exist")
    _check_archive(path, what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses about foreign pickles; ours is the one line below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() and zipfile.is_zipfile(path):
            raise UsageError(f"{what} {str(path)!r} holds objects other than tensors and plain data; refused") from None
        raise UsageError(f"{what} {str(path)!r} is damaged or not a torch file") from None
    except PermissionError:
        raise UsageError(f"{what} {str(path)!r} may not be read") from None
    except Exception:  # the bytes may come from anywhere, and torch may fail in any way
        raise UsageError(f"{what} {str(path)!r} is damaged or not a torch file") from None
    _check_claims(content, path, what)
    return content


def _check_archive(path: Path, what: str) -> None:
    """Check what torch does not: check sums, entries that would unpack to more than the file, memory on request.

    Raises:
        UsageError: if the file is damaged, or made to harm.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == _ARCHIVE_START:
                pickled = _checked_entries(zipfile.ZipFile(file), path.stat().st_size)
                harmful = any(_MEMORY_ON_REQUEST.search(content) for content in pickled)
            else:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    harmful = _MEMORY_ON_REQUEST.search(content) is not None
    except PermissionError:
        raise UsageError(f"{what} {str(path)!r} may not be read") from None
    except Exception:  # zipfile, too
        raise UsageError(f"{what} {str(path)!r} is damaged or not a torch file") from None
    if harmful:
        raise UsageError(f"{what} {str(path)!r} holds objects other than tensors and plain data; refused")


def _checked_entries(archive: zipfile.ZipFile, size: int) -> list[bytes]:
    """The pickles of a torch archive, after every entry was held to its check sum."""
    entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size or archive.testzip() is not None:
        raise ValueError("torch writes entries unpacked, each once, with check sums")
    return [archive.read(entry) for entry in entries if entry.filename.endswith(".pkl")]


def _check_claims(content: Any, path: Path, what: str) -> None:
    """Refuse tensors that claim to be larger than their file: views that repeat, storage nobody wrote."""
    size, seen, waiting = path.stat().st_size, set(), [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.numel() * value.element_size() > size:
                raise UsageError(f"{what} {str(path)!r} holds a tensor of {list(value.shape)}, larger than the file")
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def is_plain(tensor: object) -> bool:
    """Whether something is a dense tensor of real numbers with data behind it, as weights and inputs are."""
    return (
        isinstance(tensor, Tensor)
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_complex())
    )


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
    if not is_file(path):
        raise UsageError(f"{what} {str(path)!r} does not exist")
    try:
        return load_file(path)
    except PermissionError:
        raise UsageError(f"{what} {str(path)!r} may not be read") from None
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, MemoryError):
        raise UsageError(f"{what} {str(path)!r} is damaged or not a safetensors file") from None


def read_notes(path: Path) -> dict[str, str]:
    """The texts that a safetensors file carries beside its tensors; empty if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError):
        return {}


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
    if not isinstance(content, dict) or not content or not all(map(is_plain, content.values())):
        raise UsageError(f"target weights {str(path)!r}: not a state dict of tensors")
    if not all(isinstance(name, str) for name in content):
        raise UsageError(f"target weights {str(path)!r}: not a state dict of tensors")
    state = {name.removeprefix(prefix): tensor for name, tensor in content.items() if name.startswith(prefix)}
    if not state:
        raise UsageError(f"target weights {str(path)!r}: no name starts with {prefix!r}")
    return state
