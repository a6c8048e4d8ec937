"""Kills processes that do nothing but write: ``python -m tests.reliability.killed_writers FOLDER KILLS``.

Each file holds one number many times over. After every kill it must hold one number everywhere: a mixture, a shorter
file or none at all would be the trace of a write in place. Prints how many kills came in the middle of a write.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from spd_lightning.files.whole import write_torch, written_whole
from tests.reliability.faulty_runs import asides


def write(folder: Path, number: int) -> None:
    """Write one number into files of three kinds."""
    tensors = {name: torch.full((200, 300), number) for name in "abc"}
    write_torch(tensors, folder / "last.ckpt")
    with written_whole(folder / "components.safetensors") as aside:
        save_file(tensors, aside)
    with written_whole(folder / "metrics.json") as aside:
        aside.write_text("\n".join([str(number)] * 50_000))


def check(folder: Path) -> None:
    """Raise unless every file holds one number everywhere."""
    for tensors in (torch.load(folder / "last.ckpt", weights_only=True), load_file(folder / "components.safetensors")):
        assert set(tensors) == set("abc")
        assert len({int(tensor.min()) for tensor in tensors.values()} | {int(t.max()) for t in tensors.values()}) == 1
    lines = (folder / "metrics.json").read_text().split("\n")
    assert len(lines) == 50_000
    assert len(set(lines)) == 1


def kill_one(folder: Path, first: int, after: float) -> None:
    """Start a process that writes without end and kill it."""
    writer = os.fork()
    if writer == 0:
        while True:
            write(folder, first)
            first += 1
    time.sleep(after)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)


def main(folder: Path, kills: int) -> int:
    """Return how many of the kills left a half-written file aside."""
    torch.set_num_threads(1)
    write(folder, 0)
    moments, hits = random.Random(0), 0
    for turn in range(kills):
        kill_one(folder, turn * 1000, moments.uniform(0.002, 0.08))
        check(folder)
        left = asides(folder)
        hits += bool(left)
        for path in left:
            path.unlink()
    return hits


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]), int(sys.argv[2]))}\n")
