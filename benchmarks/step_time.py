"""Time of one training step, for every system and every form of the step."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from benchmarks import systems
from benchmarks.loops import KINDS, Kind, Loop
from benchmarks.options import Options
from benchmarks.processes import run
from benchmarks.timing import in_turn, summary

Row = dict[str, Any]
KEEPING = {"MALLOC_MMAP_THRESHOLD_": "1000000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}
"""Variables of glibc under which it keeps the memory it is given back, instead of having pages mapped anew."""


def measure_keeping(options: Options) -> list[Row]:
    """The same where freed memory is kept."""
    return measure(options, KEEPING)


def measure(options: Options, environment: Mapping[str, str] | None = None) -> list[Row]:
    """One row per system, device and form: steps, median and quartiles in milliseconds, examples per batch.

    A step is batch, objective, backward pass, optimiser and schedule. Reference and plain step take the whole batch,
    the fast ones the merged batch, which stands for it. Every system has a process of its own, as a training run has:
    what another one asked of the memory allocator would change the times of the forms that write large arrays.
    """
    cases = [(name, device) for name in options.systems for device in options.devices]
    rows: list[Row] = []
    with tqdm(cases, desc="Step time") as bar:
        for name, device in bar:
            bar.set_postfix_str(f"{name} on {device}")
            printed = run(["benchmarks.step_time", name, device, str(options.seconds), str(options.least)], environment)
            rows += json.loads(printed.splitlines()[-1])
    return rows


def main() -> None:
    """Print the rows of the system and device that the command line names."""
    name, device, seconds, least = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    # compiled kernels are the CPU's
    kinds: list[Kind] = [kind for kind in KINDS if device == "cpu" or kind != "uncompiled"]
    loops = {kind: Loop(systems.read(name), kind, device) for kind in kinds}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind, block in in_turn({str(kind): loop for kind, loop in loops.items()}, seconds, least):
        taken[kind] += block
    print(json.dumps([{"system": name, "device": device, "kind": k} | _row(loops[k], taken[k]) for k in kinds]))


def _row(loop: Loop, seconds: list[float]) -> Row:
    row = {**summary(seconds), "examples": len(loop.batch(0)[0]), "system_share": loop.system_share}
    if loop.kind in ("fast", "uncompiled"):
        row |= {"table_nodes": loop.module.tables.nodes, "table_check_ms": _table_check(loop)}
    return row


def _table_check(loop: Loop) -> float:
    """What training adds to every 500th step: the tables are held against the exact gates."""
    began = time.perf_counter()
    loop.check_tables()
    return 1e3 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
