"""How a step on a language model grows: ``python -m benchmarks.language_model_growth``.

Milliseconds and megabytes of the fast step against components, length and layers, each doubled three times while the
others stay, and the exponents of the straight lines through their logarithms. Sizes take turns, as in
:mod:`benchmarks.language_model`; every size's memory is that of a process of its own.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.growth import exponent
from benchmarks.language_model import SIZES, memory_in_a_process, stepper, timed
from benchmarks.machine import describe

START = SIZES | {"components": 64, "length": 32, "layers": 1, "vocabulary": 2048}
GROWING = ("components", "length", "layers")
DOUBLINGS, WARM_UP = 4, 2


def points(growing: str, repeats: int) -> list[dict[str, float]]:
    """Median time and memory at every size of one curve."""
    sizes = [
        argparse.Namespace(**START | {growing: START[growing] * 2**power}, device="cpu") for power in range(DOUBLINGS)
    ]
    takers = [stepper(options, "fast", "float32", False) for options in sizes]
    for take in takers:
        for number in range(WARM_UP):
            take(number)
    rounds = [[timed(take, number, "cpu") for take in takers] for number in range(repeats)]
    times = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return [
        {growing: getattr(options, growing), "ms": round(ms, 2), "peak MB": round(memory_in_a_process(options), 1)}
        for options, ms in zip(sizes, times, strict=True)
    ]


def main() -> None:
    """Print a line per size and the exponents of every curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for growing in tqdm(GROWING, desc="Growth"):
        rows = points(growing, options.repeats)
        exponents = {what: round(exponent(rows, growing, what), 2) for what in ("ms", "peak MB")}
        found[growing] = {"rows": rows, "exponents": exponents}
        print("\n".join(map(str, [*rows, f"grows as the power {exponents} of {growing}"])), flush=True)
    if options.output:
        options.output.write_text(json.dumps({"machine": describe(), "start": START, "curves": found}, indent=1))


if __name__ == "__main__":
    main()
