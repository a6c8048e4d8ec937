"""Builds the compiled kernels with the machine's C compiler, once, and loads them."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from spd_lightning.files.whole import CACHE_VARIABLE, cache_folder, written_whole

SOURCE = Path(__file__).with_name("step.c")
FLAGS = ("-O3", "-std=c11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
WISHES = (("-march=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
COMPILERS = ("cc", "gcc", "clang")
BUILD_SECONDS = 120
KNOWN_ANSWER = (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
"""Philox 4x32-10 of counter 0 under key 0 (Random123's published test vector)."""

_INTEGER, _FLOAT, _SEED, _POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_uint64, ctypes.c_void_p
_SIGNATURES: dict[str, list[Any]] = {
    "philox_words": [_POINTER] * 3,
    "uniform_rows": [_INTEGER] * 2 + [_SEED, _INTEGER, _POINTER, ctypes.c_int],
    "masked_forward": [_INTEGER] * 2 + [_POINTER] * 3 + [_SEED, _INTEGER, _POINTER, ctypes.c_int],
    "masked_backward": [_INTEGER] * 2 + [_POINTER] * 3 + [_SEED, _INTEGER] + [_POINTER] * 3 + [ctypes.c_int],
    "masked_chosen_forward": [_INTEGER] * 2 + [_POINTER] * 4 + [_SEED, _INTEGER, _POINTER, ctypes.c_int],
    "masked_chosen_backward": [_INTEGER] * 2 + [_POINTER] * 4 + [_SEED, _INTEGER] + [_POINTER] * 3 + [ctypes.c_int],
    "gates_forward": [_INTEGER] * 4 + [_POINTER] * 5 + [ctypes.c_int] + [_POINTER] * 5 + [ctypes.c_int],
    "gates_backward": [_INTEGER] * 4 + [_POINTER] * 4 + [ctypes.c_int] + [_POINTER] * 12 + [ctypes.c_int],
    "penalty_forward": [_INTEGER] * 2 + [_POINTER, _FLOAT, _FLOAT, _POINTER, ctypes.c_int],
    "penalty_backward": [_INTEGER] * 2 + [_POINTER] * 2 + [_FLOAT, _FLOAT, _POINTER, ctypes.c_int],
    "sigmoids_forward": [_INTEGER, _POINTER, ctypes.c_int] + [_POINTER] * 2 + [ctypes.c_int],
    "sigmoids_backward": [_INTEGER, _POINTER, ctypes.c_int] + [_POINTER] * 3 + [ctypes.c_int],
    "divergence": [_INTEGER] * 2 + [_POINTER] * 4 + [ctypes.c_int],
}


class Built(NamedTuple):
    """The loaded library, or why there is none."""

    library: ctypes.CDLL | None
    reason: str


@cache
def build() -> Built:
    """Build (or find in the cache) and load the kernels.

    The compiler is ``$CC`` or the first of cc, gcc, clang. The library lies in ``SPD_LIGHTNING_CACHE`` (by default
    the user's cache folder) under a hash of source, flags, compiler and processor. A library is code: one that another
    user wrote, or could have changed, is never loaded, but built anew.

    Returns:
        The library, or the reason in words.
    """
    compiler = _compiler()
    if compiler is None:
        return Built(None, "no C compiler was found (CC, cc, gcc, clang)")
    name = " ".join(compiler)
    try:
        library = _library(compiler)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Built(None, f"{name} could not build them ({_last_line(error)})")
    for function, arguments in _SIGNATURES.items():
        getattr(library, function).argtypes, getattr(library, function).restype = arguments, None
    if not _answers(library):
        return Built(None, f"what {name} built gives wrong numbers")
    return Built(library, "")


def _compiler() -> list[str] | None:
    """The command that calls the compiler: ``[/usr/bin/gcc]``, or ``[/usr/bin/ccache, gcc]`` where CC says so."""
    named = shlex.split(os.environ.get("CC", ""))
    for name in named[:1] or COMPILERS:
        if found := shutil.which(name):
            return [found, *named[1:]]
    return None


def _library(compiler: list[str]) -> ctypes.CDLL:
    """The shared library, built if it is not there; another process may do the same at the same time."""
    folder = cache_folder() / f"kernels-{os.geteuid()}"
    path = folder / f"step-{_key(compiler)}.so"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if not _is_ours(os.fstat(handle)):
            raise OSError(f"others may write in {folder}; set {CACHE_VARIABLE} or remove it")
        if not _is_ours_alone(path.name, handle):
            with written_whole(path) as aside:
                _compile(compiler, aside)
        return _loaded(path, handle)
    finally:
        os.close(handle)


def _loaded(path: Path, folder: int) -> ctypes.CDLL:
    """Load a library from an open folder, whatever its name may mean by now."""
    opened = Path(f"/proc/self/fd/{folder}/{path.name}")
    try:
        if not _is_ours_alone(path.name, folder):
            raise OSError(f"{path} is not this user's alone")
        return ctypes.CDLL(str(opened if opened.exists() else path))
    except OSError as error:
        raise OSError(str(error).replace(str(opened), str(path))) from None


def _is_ours_alone(name: str, folder: int) -> bool:
    """Whether there is a file, no link, that nobody but this user can have written."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and _is_ours(status)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _compile(compiler: list[str], output: Path) -> None:
    """With OpenMP and for this very processor where the compiler can, otherwise with less."""
    command = [*compiler, *FLAGS, str(SOURCE), "-o", str(output), "-lm"]
    for extra in WISHES[:-1]:
        try:
            return _run([*command, *extra])
        except subprocess.CalledProcessError:
            continue
    return _run([*command, *WISHES[-1]])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_SECONDS)


def _key(compiler: list[str]) -> str:
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False, timeout=BUILD_SECONDS).stdout
    parts = [SOURCE.read_bytes(), repr((FLAGS, WISHES, compiler)).encode(), version, _processor().encode()]
    return hashlib.blake2b(b"\0".join(parts), digest_size=10).hexdigest()


def _processor() -> str:
    """What -march=native depends on: a cache on a shared disk serves machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {features}"


def _answers(library: ctypes.CDLL) -> bool:
    zeros, out = (ctypes.c_uint32 * 4)(), (ctypes.c_uint32 * 4)()
    library.philox_words(zeros, zeros, out)
    return tuple(out) == KNOWN_ANSWER


def _last_line(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    lines = (said.decode(errors="replace") if isinstance(said, bytes) else said).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
