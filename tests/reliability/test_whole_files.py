"""Files appear whole or not at all: small disks, protected folders, limits on file sizes, SIGKILL."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from tests.reliability.faulty_runs import (
    FIT,
    asides,
    environment,
    needs_mounting,
    open_everything,
    refused_in_one_line,
    run,
    write_config,
)

LAST = "runs/tiny/version_0/checkpoints/last.ckpt"
FILL = "dd if=/dev/zero of=runs/filler bs=1k status=none 2>/dev/null"
KEEP = "cp -a runs kept"


RESUME = [*FIT, "--ckpt_path=last"]
SMALL = "cp -a runs were && mount -t tmpfs -o size=600k tmpfs runs && cp -a were/* runs/\n"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of 40 steps as it was after 10."""
    folder = tmp_path_factory.mktemp("begun")
    write_config(folder, plain=True)
    assert run(FIT, folder).code == 0
    checkpoints = folder / "runs/tiny/version_0/checkpoints"
    shutil.copy(checkpoints / "step=10.ckpt", checkpoints / "last.ckpt")
    for step in (20, 30, 40):
        (checkpoints / f"step={step}.ckpt").unlink(missing_ok=True)
    return folder


@pytest.fixture
def folder(begun, tmp_path):
    """A copy of the run, with the content of its last checkpoint."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_full_disk_ends_a_run_in_one_line_and_keeps_the_last_checkpoint(folder):
    needs_mounting()
    before = (folder / LAST).read_bytes()

    # room for the resumed config and a few events, none for a checkpoint
    full = run(RESUME, folder, f"{SMALL}{FILL}\ntruncate -s -24k runs/filler", KEEP, mounting=True)

    refused_in_one_line(full, "ckpt' cannot be written (No space left on device)", "make room")
    assert (folder / "kept" / LAST.removeprefix("runs/")).read_bytes() == before
    assert asides(folder / "kept") == []


def test_a_limit_on_file_sizes_ends_a_run_in_one_line_and_keeps_the_last_checkpoint(folder):
    before = (folder / LAST).read_bytes()

    limited = run(RESUME, folder, f"ulimit -f {len(before) // 2048}")

    refused_in_one_line(limited, "ckpt' cannot be written (File too large)", "ulimit -f")
    assert (folder / LAST).read_bytes() == before
    assert asides(folder) == []
    open_everything(folder / "runs")


@pytest.mark.reliability
def test_a_protected_folder_is_refused_before_anything_is_done(folder):
    needs_mounting()

    protected = run(RESUME, folder, f"{SMALL}mount -o remount,ro runs", KEEP, mounting=True)

    refused_in_one_line(protected, "cannot be written (Read-only file system)")
    assert open_everything(folder / "kept")
    assert sorted(p.name for p in (folder / "kept").rglob("*")) == sorted(p.name for p in (folder / "were").rglob("*"))


@pytest.mark.reliability
@pytest.mark.parametrize("size", [24, 60, 100, 150, 250, 350, 450, 600])
def test_whatever_a_disk_refuses_is_told_in_one_line(tmp_path, size):
    """A disk of this size in kB fills up at another file each: config, events, figure, checkpoint, artefact, report."""
    needs_mounting()
    write_config(tmp_path)

    ended = run(FIT, tmp_path, f"mkdir runs && mount -t tmpfs -o size={size}k tmpfs runs", KEEP, mounting=True)

    refused_in_one_line(ended, "cannot be written (No space left on device)")
    open_everything(tmp_path / "kept")
    assert asides(tmp_path / "kept") == []


@pytest.mark.reliability
@pytest.mark.parametrize("blocks", [1, 6, 12, 20, 30, 45, 80])
def test_whatever_a_limit_refuses_is_told_in_one_line(tmp_path, blocks):
    """The same with a limit of so many kB per file."""
    write_config(tmp_path)

    ended = run([*FIT], tmp_path, f"ulimit -f {blocks}")

    refused_in_one_line(ended, "cannot be written (File too large)")
    open_everything(tmp_path / "runs")
    assert asides(tmp_path) == []


def _killed(folder, kills):
    """In memory where there is such a disk: a slow one would be caught flushing every time."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory)) if memory.is_dir() else folder
    command = [sys.executable, "-m", "tests.reliability.killed_writers", str(folder), str(kills)]
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True, timeout=550)
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout)


def test_a_killed_writer_leaves_the_file_as_it_was_or_as_it_was_to_be(tmp_path):
    hits = _killed(tmp_path, 25)

    assert hits >= 3, "too few of the kills came while a file was being written"


@pytest.mark.reliability
def test_a_writer_killed_four_hundred_times(tmp_path):
    assert _killed(tmp_path, 400) >= 40


def _kill_when_saving(command, folder, after):
    """Start a run, wait until it has saved a checkpoint, and kill it some seconds later."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment(folder), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    saved, before = folder / LAST, (folder / LAST).stat().st_mtime_ns if (folder / LAST).exists() else 0
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (saved.exists() and saved.stat().st_mtime_ns > before):
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.05)
    time.sleep(after)
    process.kill()
    process.wait()


@pytest.mark.reliability
def test_a_killed_run_leaves_only_whole_files(tmp_path):
    """SIGKILL at many moments of a run that writes all the time; what has a name can be read, and goes on."""
    write_config(tmp_path)
    endless = [*FIT, "--trainer.max_steps=100000", "--trainer.val_check_interval=3"]
    endless += ["--trainer.callbacks+=tests.reliability.savers.SaveOften"]
    reached = 0
    for turn in range(8):
        _kill_when_saving([*endless, f"--ckpt_path={'last' if turn else 'null'}"], tmp_path, 0.37 * turn)
        open_everything(tmp_path / "runs")
        step = torch.load(tmp_path / LAST, weights_only=True)["global_step"]
        assert step > reached
        reached = step
