"""What a run of the benchmarks is asked for."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import systems

ROOT = Path(__file__).resolve().parent.parent
QUICK_SYSTEMS = ("tms", "paper/tms_5-2")


@dataclass(frozen=True)
class Options:
    """How much is measured, and where results go.

    Attributes:
        parts: names of the parts to run.
        systems: names of the systems.
        seconds: time spent on each form of a system's step.
        least: steps that are timed even if they take longer than that.
        repeats: how often a whole process is repeated.
        trainer_steps: length of the run whose trainer is looked at.
        seeds: of the runs that are timed until they recover.
        output: folder of the results.
        quick: whether this is a trial whose numbers mean nothing.
    """

    parts: tuple[str, ...]
    systems: tuple[str, ...]
    seconds: float
    least: int
    repeats: int
    trainer_steps: int
    seeds: tuple[int, ...]
    output: Path
    quick: bool

    @property
    def devices(self) -> tuple[str, ...]:
        """Where step times are taken."""
        return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def parse(arguments: Sequence[str] | None, parts: Sequence[str]) -> Options:
    """Read the command line.

    Args:
        arguments: those of the process by default.
        parts: all parts there are.

    Returns:
        The options; also sets torch's number of threads.
    """

    def part(name: str) -> str:
        if name not in parts:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(parts)}")
        return name

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure training steps.")
    parser.add_argument("parts", nargs="*", type=part, metavar="PART", help=f"{', '.join(parts)}; all by default")
    parser.add_argument(
        "--tables", action="store_true", help="run nothing, write tables and pictures from earlier results"
    )
    parser.add_argument("--systems", nargs="+", choices=systems.names(), help="shipped configs; all by default")
    parser.add_argument("--seconds", type=float, help="time per form of a step; 10, quick: 0.3")
    parser.add_argument("--repeats", type=int, help="repeats of whole processes; 3, quick: 1")
    parser.add_argument("--trainer-steps", type=int, help="steps under the trainer; 3300, quick: 600")
    parser.add_argument("--seeds", nargs="+", type=int, help="of time_to_recovery; 0 to 4, quick: 0")
    parser.add_argument("--threads", type=int, help="of torch; as many as cores by default")
    parser.add_argument("--output", type=Path, help="folder; docs/benchmarks, quick: runs/benchmarks-quick")
    parser.add_argument("--quick", action="store_true", help="few repeats, small systems: a trial of the scripts")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    return _filled(given, () if given.tables else given.parts or parts)


def _filled(given: argparse.Namespace, parts: Sequence[str]) -> Options:
    quick = given.quick
    return Options(
        parts=tuple(parts),
        systems=tuple(given.systems or (QUICK_SYSTEMS if quick else systems.names())),
        seconds=given.seconds or (0.3 if quick else 10.0),
        least=1 if quick else 3,
        repeats=given.repeats or (1 if quick else 3),
        trainer_steps=given.trainer_steps or (600 if quick else 3300),
        seeds=tuple(given.seeds or ((0,) if quick else range(5))),
        output=given.output or (ROOT / "runs" / "benchmarks-quick" if quick else ROOT / "docs" / "benchmarks"),
        quick=quick,
    )
