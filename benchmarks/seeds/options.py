"""What is asked for on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.options import ROOT
from benchmarks.reproduce.options import MANY_JOBS, number_in
from benchmarks.seeds.document import DOCS
from benchmarks.seeds.draw import Draw, drawn_entries, whole
from benchmarks.seeds.plan import TablePlan, find_plan, read_plan
from benchmarks.seeds.seed_lists import read_seeds
from spd_lightning.errors import OneLineParser, UsageError
from spd_lightning.sweep.grid import read_assignments

RUNS = ROOT / "runs" / "seeds"


@dataclass(frozen=True)
class Options:
    """What is run, how many at a time, and where everything lies.

    Attributes:
        plan: with its configs resolved and its sizes drawn.
        entries: names of those entries that are run now.
        jobs: runs at a time.
        table_only: run nothing.
        folder: of the table.
        cache: of trained targets.
        docs: where the table is published; ``None`` for nowhere.
        keep: whether it keeps what it says of runs that have no verdict in the folder.
    """

    plan: TablePlan
    entries: tuple[str, ...]
    jobs: int
    table_only: bool
    folder: Path
    cache: Path
    docs: Path | None
    keep: bool


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the command line.

    Args:
        arguments: those of the process by default.

    Returns:
        The options.

    Raises:
        UsageError: for a plan that is none, or what does not fit one.
        SystemExit: for ``--help``.
    """
    given = _parser().parse_args(arguments)
    if given.keep and given.set:
        raise UsageError("--keep would count published runs made without --set; give one of the two, or a plan with it")
    plan = TablePlan() if given.plan is None else read_plan(find_plan(given.plan))
    draw = _draw(plan.draw, given.draw, given.seed)
    drawn = plan.drawn if draw == plan.draw else ()  # of another draw the sizes are others
    plan = replace(plan, draw=draw, drawn=drawn, name=given.name or plan.name or "drawn")
    if plan.draw and not plan.drawn:
        plan = replace(plan, draw=plan.draw.resolved(), drawn=drawn_entries(plan.draw))
    chosen = _chosen(plan, given.entries)
    plan = plan.changed(chosen, read_seeds(given.seeds), read_assignments(given.set, "--set")).resolved()
    jobs = number_in("--jobs", given.jobs, 1, MANY_JOBS)
    runs = given.runs.absolute()
    docs = given.output.absolute() if given.write else None
    return Options(plan, chosen, jobs, given.table_only, runs / plan.name, runs / "cache", docs, given.keep)


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="python -m benchmarks.seeds",
        description="Run systems, sizes and settings over seeds, and tell how often everything known is recovered.",
        allow_abbrev=False,
    )
    parser.add_argument("plan", nargs="?", help="a plan, path or name of a shipped one (benchmarks/seeds/plans)")
    parser.add_argument(
        "--entries", nargs="+", default=["*"], metavar="ENTRY", help="run only these of the plan; * is anything"
    )
    parser.add_argument("--seeds", nargs="+", default=[], help="of these entries, instead of their own: 0-9, or 0 1 2")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="in these entries")
    parser.add_argument("--draw", metavar="N", help="draw so many sizes, beside the plan's entries or without a plan")
    parser.add_argument("--seed", help="of the draw")
    parser.add_argument("--jobs", default="1", help="runs at a time, each on one thread (default: %(default)s)")
    parser.add_argument("--name", help="of the table; that of the plan by default")
    parser.add_argument("--table-only", action="store_true", help="run nothing, write the table of what was run")
    parser.add_argument("--write", action="store_true", help="write the table into docs/seeds.md, too")
    parser.add_argument(
        "--keep", action="store_true", help="with --write: keep what it said of runs without a verdict here"
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of all tables; runs/seeds")
    parser.add_argument("--output", type=Path, default=DOCS, help="folder that --write writes to; docs")
    return parser


def _draw(own: Draw | None, count: str | None, seed: str | None) -> Draw | None:
    """The plan's draw, as far as the command line says nothing else."""
    if count is None and seed is None:
        return own
    if own is None and (count is None or seed is None):
        raise UsageError("--draw needs --seed, and --seed needs --draw: how many sizes, from which list")
    own = own or Draw(0, 0)
    return replace(
        own,
        count=own.count if count is None else whole("--draw", count),
        seed=own.seed if seed is None else whole("--seed", seed),
    )


def _chosen(plan: TablePlan, patterns: Sequence[str]) -> tuple[str, ...]:
    names = [entry.name for entry in plan.all]
    for pattern in patterns:
        if names and not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"--entries: {pattern!r} is none of {', '.join(names)}")
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))
