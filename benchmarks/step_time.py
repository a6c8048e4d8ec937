"""Time of one training step, for every system and every form of the step."""

import time
from typing import Any

from tqdm import tqdm

from benchmarks import systems
from benchmarks.loops import KINDS, Loop
from benchmarks.options import Options
from benchmarks.timing import in_turn, summary

Row = dict[str, Any]


def measure(options: Options) -> list[Row]:
    """One row per system, device and form: steps, median and quartiles in milliseconds, examples per batch.

    A step is batch, objective, backward pass, optimiser and schedule. Reference and plain step take the whole batch,
    the fast ones the merged batch, which stands for it.
    """
    cases = [(name, device) for name in options.systems for device in options.devices]
    rows: list[Row] = []
    with tqdm(cases, desc="Step time") as bar:
        for name, device in bar:
            bar.set_postfix_str(f"{name} on {device}")
            rows += _system(name, device, options)
    return rows


def _system(name: str, device: str, options: Options) -> list[Row]:
    # compiled kernels are the CPU's
    kinds = [kind for kind in KINDS if device == "cpu" or kind != "uncompiled"]
    loops = {kind: Loop(systems.read(name), kind, device) for kind in kinds}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tqdm(desc=name, unit="step", leave=False) as bar:
        for kind, block in in_turn({str(kind): loop for kind, loop in loops.items()}, options.seconds, options.least):
            seconds[kind] += block
            bar.set_postfix_str(kind)
            bar.update(len(block))
    return [{"system": name, "device": device, "kind": kind} | _row(loops[kind], seconds[kind]) for kind in kinds]


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
