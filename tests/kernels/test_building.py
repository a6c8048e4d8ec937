"""The kernels are built once, by whatever compiler there is; without one there is a reason in words."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spd_lightning.kernels import build

ROOM = importlib.import_module("spd_lightning.kernels.build")  # the package's own attribute of that name is a function
COMPILER = next((path for name in ROOM.COMPILERS if (path := shutil.which(name))), None)
needs_a_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, and whatever compiler the machine has."""
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path


@pytest.fixture
def compiler(folder, monkeypatch):
    """Sets ``CC`` to a shell script."""

    def write(script):
        path = folder / "my-compiler"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CC", str(path))
        return path

    return write


def _build():
    """Not what was built before."""
    return build.__wrapped__()


def _kept(folder):
    return sorted((folder / "cache").rglob("*"))[1:]


@needs_a_compiler
def test_the_machines_compiler_builds_them(folder):
    built = _build()
    assert built.library is not None
    assert built.reason == ""
    assert [path.suffix for path in _kept(folder)] == [".so"]


@needs_a_compiler
def test_they_are_built_once(folder, compiler):
    compiler(f'[ "$1" = --version ] || echo >> {folder}/calls\nexec {COMPILER} "$@"')
    assert _build().library is not None
    first = (folder / "calls").read_text()
    assert _build().library is not None
    assert (folder / "calls").read_text() == first == "\n"


@needs_a_compiler
def test_another_processor_or_compiler_gets_a_library_of_its_own(folder, compiler, monkeypatch):
    _build()
    monkeypatch.setattr(ROOM, "_processor", lambda: "another one")
    _build()
    assert len(_kept(folder)) == 2
    compiler(f'exec {COMPILER} "$@"')
    _build()
    assert len(_kept(folder)) == 3


@needs_a_compiler
def test_a_compiler_without_openmp_will_do(compiler):
    compiler(f'case "$*" in *-fopenmp*) echo "no such flag" >&2; exit 1;; esac\nexec {COMPILER} "$@"')
    assert _build().library is not None


@pytest.mark.parametrize("variables", [{"CC": "/nowhere/cc"}, {"PATH": ""}, {"CC": "", "PATH": "/nowhere"}])
def test_no_compiler(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    built = _build()
    assert built.library is None
    assert built.reason == "no C compiler was found (CC, cc, gcc, clang)"


REASONS = {
    "echo first >&2; echo 'unknown processor' >&2; exit 1": "(unknown processor)",
    "exit 1": "returned non-zero exit status 1",
    'while [ "$1" != -o ]; do shift || exit; done; echo garbage > "$2"': "step-",
    "exec sleep 60": "timed out after 1 seconds",
    "echo 'still thinking' >&2; exec sleep 60": "(still thinking)",
}


@pytest.mark.parametrize("script", REASONS)
def test_a_compiler_that_fails(script, folder, compiler, monkeypatch):
    if "sleep" in script:
        monkeypatch.setattr(ROOM, "BUILD_SECONDS", 1)
    path = compiler(f'[ "$1" = --version ] && exit\n{script}')
    built = _build()
    assert built.library is None
    assert built.reason.startswith(f"{path} could not build them (")
    assert REASONS[script] in built.reason
    assert "\n" not in built.reason
    assert not [left for left in _kept(folder) if left.name.startswith(".")]  # nothing half-written


@needs_a_compiler
def test_a_library_that_gives_wrong_numbers(folder, compiler):
    stubs = "\n".join(f"void {name}(void) {{}}" for name in ROOM._SIGNATURES)
    (folder / "stubs.c").write_text(stubs)
    path = compiler(
        f'[ "$1" = --version ] && exit\nwhile [ "$1" != -o ]; do shift; done\n'
        f'exec {COMPILER} -shared -fPIC {folder}/stubs.c -o "$2"'
    )
    assert _build() == (None, f"what {path} built gives wrong numbers")


@needs_a_compiler
@pytest.mark.parametrize("cache", ["a file", "/proc/nowhere"])
def test_a_cache_that_cannot_be_written(cache, folder, monkeypatch):
    (folder / "a file").touch()
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(folder / cache))
    built = _build()
    assert built.library is None
    assert built.reason.startswith(f"{COMPILER} could not build them ([Errno ")


@needs_a_compiler
def test_a_machine_without_a_home_folder(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("SPD_LIGHTNING_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    built = _build()
    assert built.library is None
    assert "home directory" in built.reason


BUILD_ALONE = """
import sys, types
for name, path in (("spd_lightning", "{package}"), ("spd_lightning.kernels", "{package}/kernels")):
    sys.modules[name] = types.ModuleType(name)  # without what else they import
    sys.modules[name].__path__ = [path]
from spd_lightning.kernels.build import build
assert build().library, build().reason
"""


@needs_a_compiler
def test_two_processes_build_at_the_same_time(folder, compiler):
    compiler(
        f'[ "$1" = --version ] && exit\necho >> {folder}/calls\n'
        f"for i in $(seq 60); do [ $(wc -l < {folder}/calls) -ge 2 ] && break; sleep 0.5; done\n"
        f'exec {COMPILER} "$@"'
    )
    command = [sys.executable, "-c", BUILD_ALONE.format(package=Path(ROOM.__file__).parents[1])]
    both = [subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=100)[1] == ""
        assert process.returncode == 0
    assert (folder / "calls").read_text() == "\n\n"  # neither found the other's
    assert [path.suffix for path in _kept(folder)] == [".so"]
