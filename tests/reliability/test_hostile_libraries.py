"""A compiled library is code: one that somebody else could have written is never loaded."""

import contextlib
import os
import shutil
import stat
import subprocess
import warnings
from pathlib import Path

import pytest

from spd_lightning.kernels import build

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")
PLANT = '__attribute__((constructor)) static void plant(void) { fclose(fopen("%s", "w")); }'


def _planted(path: Path, mark: Path) -> None:
    """A library that leaves a mark when it is loaded."""
    path.unlink(missing_ok=True)
    source = path.with_suffix(".c")
    source.write_text(f"#include <stdio.h>\n{PLANT % mark}\n")
    subprocess.run([COMPILER, "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    path.chmod(0o644)
    source.unlink()


def _built(folder: Path) -> str:
    """Whether there is a library, and why not, in a process that has loaded none before."""
    answer = folder / "built.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork among threads; see open_all
        child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            built = build.__wrapped__()
            answer.write_text(f"{built.library is not None}|{built.reason}")
        os._exit(0)
    os.waitpid(child, 0)
    return answer.read_text()


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
def test_a_library_that_others_could_have_written_is_not_loaded(tmp_path, monkeypatch):
    folder = tmp_path
    script = folder / "quick"
    script.write_text(f'#!/bin/sh\nexec {COMPILER} "$@" -O0\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(folder / "cache"))
    mark = folder / "executed"
    assert _built(folder) == "True|"
    (kept,) = (folder / "cache").rglob("*.so")
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700

    _planted(kept, mark)
    kept.chmod(0o666)
    assert _built(folder) == "True|"  # built anew
    _planted(folder / "elsewhere.so", mark)
    kept.unlink()
    kept.symlink_to(folder / "elsewhere.so")
    assert _built(folder) == "True|"
    kept.parent.chmod(0o777)
    library, reason = _built(folder).split("|")
    assert library == "False"
    assert "others may write in" in reason
    assert not mark.exists()

    kept.parent.chmod(0o700)
    _planted(kept, mark)  # this user's own doing: the trap works
    _built(folder)
    assert mark.exists()
