"""Run the benchmarks and write what they found; a part that was not run keeps its earlier numbers."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks import breakdown, curves, equality, machine, memory, report, step_time, time_to_recovery, trainer_share
from benchmarks.options import Options, parse

PARTS: dict[str, Callable[[Options], Any]] = {
    "equality": equality.measure,
    "step_time": step_time.measure,
    "step_time_keeping": step_time.measure_keeping,
    "memory": memory.measure,
    "machine": machine.measure,
    "breakdown": breakdown.measure,
    "curves": curves.measure,
    "trainer_share": trainer_share.measure,
    "time_to_recovery": time_to_recovery.measure,
}


def main() -> None:
    """Run the chosen parts in order; results are written after each, so that an interrupted run loses one at most."""
    options = parse(None, list(PARTS))
    results = report.load(options.output)
    for part in options.parts:
        began = time.monotonic()
        found = PARTS[part](options)
        took = time.monotonic() - began
        results[part] = {"machine": machine.describe(), "quick": options.quick, "took_s": took, "found": found}
        report.write(results, options.output)
    report.write(results, options.output)
    print(report.document(results))


if __name__ == "__main__":
    main()
