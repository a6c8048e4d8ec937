"""Step times where the C library keeps the memory it is given back: what a step costs without asking for it anew.

By default glibc hands large arrays back to the operating system when they are freed. A step that writes many of them
then spends much of its time on having pages mapped again. These variables of glibc turn that off.
"""

import json
import sys
from typing import Any

from tqdm import tqdm

from benchmarks import systems
from benchmarks.loops import Kind, Loop
from benchmarks.options import Options
from benchmarks.processes import run
from benchmarks.timing import in_turn, summary

KEEPING = {"MALLOC_MMAP_THRESHOLD_": "1000000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}
KINDS: tuple[Kind, ...] = ("reference", "plain", "fast")


def measure(options: Options) -> list[dict[str, Any]]:
    """One row per system and form, as in :mod:`benchmarks.step_time`, each system in a process that keeps memory."""
    rows: list[dict[str, Any]] = []
    for name in tqdm(options.systems, desc="Step time, memory kept"):
        printed = run(["benchmarks.allocator", name, str(options.seconds / 2), str(options.least)], KEEPING)
        rows += json.loads(printed.splitlines()[-1])
    return rows


def main() -> None:
    """Print the rows of the system that the command line names."""
    name, seconds, least = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    loops = {kind: Loop(systems.read(name), kind) for kind in KINDS}
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for kind, block in in_turn({str(kind): loop for kind, loop in loops.items()}, seconds, least):
        taken[kind] += block
    print(json.dumps([{"system": name, "kind": kind, **summary(taken[kind])} for kind in KINDS]))


if __name__ == "__main__":
    main()
