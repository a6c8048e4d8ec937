"""Kills harvests of a run directory at many moments.

``python -m tests.analysis.killed_harvests RUN_DIR FOLDER PROCESSES [MOMENT ...]``. Every harvest is forked from this
process, which has imported everything, and kills itself at one moment. It is then gone on with, and what it leaves is
compared with a harvest of one process that was left alone; the last one is killed at all moments, one after the other.
Of several processes, started as ``torchrun`` does, the later ones come first, since the first waits for them. Prints a
JSON object: by moment, how the processes ended, and which files differ.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spd_lightning.analysis import harvest_files
from spd_lightning.analysis.__main__ import main
from spd_lightning.analysis.harvest_tally import Tally
from spd_lightning.runs.reopened import reopened

FILES = ("harvest.jsonl", "harvest.safetensors")


def die(*_: Any) -> None:
    """End at once, as ``kill -9`` ends."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_batch(number: int) -> None:
    """Die when a batch of the share is half added."""
    sample = Tally._sample

    def dying(tally: Tally, *given: Any) -> None:
        if tally.batches - tally.share.first == number:
            die()
        sample(tally, *given)

    Tally._sample = dying


def in_saving(number: int) -> None:
    """Die when half of a file of tensors is written."""
    save, count = harvest_files.save_file, 0

    def dying(tensors: Any, path: Path, notes: Any) -> None:
        nonlocal count
        save(tensors, path, notes)
        count += 1
        if count == number:
            os.truncate(path, path.stat().st_size // 2)
            die()

    harvest_files.save_file = dying


def in_rows() -> None:
    """Die when some rows are written."""
    rows = harvest_files.rows

    def dying(*given: Any) -> Any:
        yield from list(rows(*given))[:2]
        die()

    harvest_files.rows = dying


def around_the_end(after: bool) -> None:
    """Die before or after the finished harvest has its name."""
    write = harvest_files._write

    def dying(tally: Tally, path: Path) -> None:
        if path.name == "harvest.safetensors" and not after:
            die()
        write(tally, path)
        if path.name == "harvest.safetensors":
            die()

    harvest_files._write = dying


MOMENTS: dict[str, Callable[[], None]] = {
    "first batch": lambda: in_batch(0),
    "second batch": lambda: in_batch(1),
    "half of the first part": lambda: in_saving(1),
    "half of the second part": lambda: in_saving(2),
    "rows": in_rows,
    "before the end": lambda: around_the_end(after=False),
    "after the end": lambda: around_the_end(after=True),
}


def harvested(run: Path, rank: int = 0, processes: int = 1, prepare: Callable[[], None] = lambda: None) -> int:
    """Harvest in a process of its own, which may be one of several; its exit code."""
    child = os.fork()
    if child == 0:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
        prepare()
        harvest_files.INTERVAL_S = 0.0  # saved after every batch
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
        main(["harvest", str(run), "--units", "50", "--places", "3"])
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tried(run: Path, folder: Path, processes: int = 1, *kills: Callable[[], None]) -> dict[str, Any]:
    """Kill every process of a harvest again and again, let it finish at last."""
    shutil.copytree(run, folder)
    codes = []
    for rank in reversed(range(processes)):
        codes += [harvested(folder, rank, processes, kill) for kill in kills]
        codes.append(harvested(folder, rank, processes))
    contents = {name: (folder / "analysis" / name).read_bytes() for name in FILES}
    left = [path.name for path in (folder / "analysis").iterdir() if not path.name.startswith(".")]
    return {"codes": codes, "contents": contents, "left": sorted(left)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    run, folder, processes, *moments = sys.argv[1:]
    run, folder, processes = Path(run), Path(folder), int(processes)
    reopened(run)  # imports what its target and its data need
    whole = tried(run, folder / "whole")
    found = {name: tried(run, folder / name, processes, MOMENTS[name]) for name in moments}
    found["one after the other"] = tried(run, folder / "all", processes, *MOMENTS.values())
    for name, one in found.items():
        contents = one.pop("contents")
        one["differing"] = [name for name in FILES if contents[name] != whole["contents"][name]]
    json.dump(found, sys.stdout)
