"""Largest resident memory of a training process, for every system and every form of the step."""

import json
import sys
from typing import Any, cast

from tqdm import tqdm

from benchmarks import systems
from benchmarks.loops import KINDS, Kind, Loop
from benchmarks.options import Options
from benchmarks.processes import run
from spd_lightning.runs.memory import peak_memory

Row = dict[str, Any]
STEPS = 3


def measure(options: Options) -> list[Row]:
    """One row per system and form: megabytes before the first step and at most, over three steps.

    Every case is a process of its own, since memory that a process has had once is not always given back.
    """
    cases = [(name, kind) for name in options.systems for kind in KINDS]
    rows = []
    with tqdm(cases, desc="Memory") as bar:
        for name, kind in bar:
            bar.set_postfix_str(f"{name}, {kind}")
            rows.append({"system": name, "kind": kind} | _in_a_process(name, kind))
    return rows


def _in_a_process(name: str, kind: Kind) -> Row:
    row: Row = json.loads(run(["benchmarks.memory", name, kind]).splitlines()[-1])
    return row


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB of 10⁶ bytes."""
    return peak_memory() / 1e6


def main() -> None:
    """Take a few steps of the system and form named on the command line; print what they needed."""
    loop = Loop(systems.read(sys.argv[1]), cast(Kind, sys.argv[2]))
    before = peak_mb()
    for _ in range(STEPS):
        loop.step()
    print(json.dumps({"before_mb": before, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
