"""The command line of sweeps."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from spd_lightning.cli.arguments import find_sweep, one_line
from spd_lightning.errors import INTERRUPTED, WRONG_USAGE, OneLineParser, UsageError
from spd_lightning.files.whole import written_whole
from spd_lightning.runs.checkpoints import check_writable
from spd_lightning.sweep.configs import Config
from spd_lightning.sweep.execute import Failures, execute, say
from spd_lightning.sweep.grid import SEED, read_assignments, read_values, short_keys
from spd_lightning.sweep.pictures import draw_pictures
from spd_lightning.sweep.plan import PLAN_NAME, SweepPlan, checked_name, read_plan
from spd_lightning.sweep.runs import SweptRun, plan_runs
from spd_lightning.sweep.table import TABLE_NAME, write_table

FAILED = 1
LOCK_NAME = "sweep.lock"
"""All that is left where the plan could not be written."""
DESCRIPTION = """\
Run one config over a grid of values, one run after the other, and compare the results.

  python -m spd_lightning.sweep --config tms.yaml \\
      --over model.losses.importance.coefficient=1e-3,3e-3,1e-2 --over seed_everything=0,1,2

makes nine runs in runs/sweeps/tms-importance.coefficient/, each an ordinary run directory. Beside them: sweep.yaml
(the plan), results.csv (a row per run) and figures/. TensorBoard compares them under HPARAMS:
tensorboard --logdir runs/sweeps. Ctrl-C stops the sweep; the same command goes on with it, and one with further values
adds to it. All values are checked before the first run starts.
"""
EPILOG = """\
A sweep file holds the same, with lists in place of commas; what the command line says wins:

  config: tms.yaml
  set: {trainer.max_steps: 6000}
  over:
    model.losses.importance.coefficient: [1.0e-3, 3.0e-3, 1.0e-2]
    seed_everything: [0, 1, 2]

exit codes: 0 all runs are finished, 1 some are not, 2 wrong usage (nothing is written), 130 after Ctrl-C or SIGTERM
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line of sweeps.

    Args:
        args: arguments; those of the process by default.

    Returns:
        0 if all runs are finished, 1 if some are not, 2 for wrong usage (one line on stderr), 130 after Ctrl-C or
        SIGTERM.
    """
    try:
        options = _parser().parse_args(args)
        plan = _plan(options).resolved()
        return run_sweep(plan, Path(options.output) / plan.name)
    except UsageError as error:
        sys.stderr.write(f"error: {one_line(str(error))}\n")
        return WRONG_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("sweep interrupted; the same command goes on with it\n")
        return INTERRUPTED


def run_sweep(plan: SweepPlan, folder: Path) -> int:
    """Do what is left to do of a sweep.

    Args:
        plan: with its configs resolved.
        folder: the sweep's folder, new or with a plan that this one agrees with.

    Returns:
        0 if all runs are finished, 1 if some are not.

    Raises:
        UsageError: if a value is refused, or the folder holds something else; nothing has been written.
        KeyboardInterrupt: after Ctrl-C.
    """
    plan = _with_former(plan, folder)
    default, runs = plan_runs(plan, folder)
    check_writable(folder, "--output")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK_NAME, timeout=0):
            with written_whole(folder / PLAN_NAME) as aside:
                aside.write_text(plan.text())
            return _run_all(plan, default, runs, folder)
    except Timeout:
        raise UsageError(f"another process is running the sweep in {str(folder)!r}; wait for it to end") from None


def _run_all(plan: SweepPlan, default: Config, runs: Sequence[SweptRun], folder: Path) -> int:
    def record(failures: Failures) -> None:
        write_table(folder / TABLE_NAME, runs, failures)

    failures = execute(runs, record)
    for note in draw_pictures(runs, default, folder / "figures"):
        say(note)
    states = [run.standing(failures.get(run.name, ""))[0] for run in runs]
    finished = states.count("finished")
    sys.stdout.write(
        f"Sweep {plan.name}: {finished} of {len(runs)} runs are finished; table and figures are in {folder}\n"
    )
    return 0 if finished == len(runs) else FAILED


def _with_former(plan: SweepPlan, folder: Path) -> SweepPlan:
    """The plan joined to the one that the folder holds already."""
    if (folder / PLAN_NAME).is_file():
        return replace(read_plan(folder / PLAN_NAME), name=plan.name).joined(plan)
    if folder.is_dir() and any(path.name != LOCK_NAME for path in folder.iterdir()):
        raise UsageError(f"{str(folder)!r} exists and is not a sweep ({PLAN_NAME} is missing); choose another --name")
    return plan


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m spd_lightning.sweep",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="append", default=[], help="a config, path or name of a shipped one")
    for flag, metavar, text in (
        ("--over", "KEY=VALUES", "dotted key and values, separated by commas"),
        ("--set", "KEY=VALUE", "dotted key and value of every run"),
    ):
        parser.add_argument(flag, metavar=metavar, nargs="+", action="extend", default=[], help=text)
    parser.add_argument("--sweep", help="a sweep file, path or name of a shipped one (configs/sweeps)")
    parser.add_argument("--name", help="of the sweep's folder; default: from the sweep file, or config and keys")
    parser.add_argument("--output", default="runs/sweeps", help="where sweeps go (default: %(default)s)")
    return parser


def _plan(options: argparse.Namespace) -> SweepPlan:
    """What the sweep file says, overridden by the command line."""
    path = None if options.sweep is None else find_sweep(options.sweep)
    plan = SweepPlan() if path is None else read_plan(path)
    over = {key: read_values(key, text) for key, text in read_assignments(options.over, "--over").items()}
    plan = replace(
        plan,
        configs=tuple(options.config) or plan.configs,
        settings={**plan.fixed, **read_assignments(options.set, "--set")},
        grids=tuple({**grid, **over} for grid in plan.grids or ({},)),
    )
    _check_complete(plan)
    given = options.name or plan.name or (path.stem if path else "")
    return replace(plan, name=checked_name(given or _default_name(plan)))


def _check_complete(plan: SweepPlan) -> None:
    if not plan.configs:
        raise UsageError("a sweep needs a config, for example --config tms.yaml")
    if not plan.keys:
        raise UsageError("a sweep needs something to vary, for example --over seed_everything=0,1,2")
    plan.check_keys()


def _default_name(plan: SweepPlan) -> str:
    swept = [key for key in plan.keys if key != SEED] or [SEED]
    return "-".join([Path(plan.configs[-1]).stem, *short_keys(swept).values()])
