"""Run what is missing of both methods, then write what was found."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare import document, growth
from benchmarks.compare.pairs import KNOBS, PAIRS
from benchmarks.reproduce.__main__ import make
from benchmarks.reproduce.options import DOCS, RUNS, Options
from benchmarks.reproduce.plan import runs_of
from spd_lightning.errors import INTERRUPTED
from spd_lightning.files.whole import written_whole
from spd_lightning.sweep.command import main as sweep

COST = "cost.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report.

    Args:
        arguments: those of the process by default.

    Returns:
        Exit code: 0; 1 if a run failed or had to be left alone, 130 after Ctrl-C.
    """
    given = _parse(arguments)
    sweeps, cost_file = given.runs.parent / "sweeps", given.runs / COST
    code = 0
    if not given.table_only:
        code = _make(given.runs, given.jobs)
        code = code if code == INTERRUPTED else max(code, _sweep(sweeps))
        if code == INTERRUPTED:
            return code
        with written_whole(cost_file) as aside:
            aside.write_text(json.dumps(growth.measure(), indent=2))
    cost = json.loads(cost_file.read_text()) if cost_file.is_file() else []
    page = document.write(given.output, given.runs, sweeps, cost, given.keep)
    sys.stdout.write(f"wrote {page}\n")
    return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument(
        "--jobs", type=int, default=0, help="runs at a time, as many as cores by default; sweeps one by one"
    )
    parser.add_argument("--keep", action="store_true", help="keep what the page says of systems without runs here")
    parser.add_argument("--table-only", action="store_true", help="run nothing, write what was run earlier")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs; runs/reproduce")
    parser.add_argument("--output", type=Path, default=DOCS, help="folder of the page; docs")
    return parser.parse_args(arguments)


def _make(folder: Path, jobs: int) -> int:
    """Make the runs of systems that are missing."""
    runs = [run for pair in PAIRS for run in runs_of((pair.spd, pair.apd), document.seeds(pair), folder)]
    interrupted, failures = make(runs, Options((), jobs=jobs))
    if interrupted:
        sys.stderr.write("interrupted; the same command goes on\n")
        return INTERRUPTED
    return 1 if failures else 0


def _sweep(folder: Path) -> int:
    """Make the sweeps, each as far as it is missing."""
    codes = [sweep(["--sweep", f"{knob.sweep}.yaml", "--output", str(folder)]) for knob in KNOBS]
    return INTERRUPTED if INTERRUPTED in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
