"""What the trainer adds to a step: logging, progress bar, checkpoints and all other default callbacks."""

import itertools
import json
import statistics
import sys
import time
from typing import Any

from tqdm import trange

from benchmarks import systems
from benchmarks.clocks import stepped
from benchmarks.loops import Loop
from benchmarks.options import Options
from benchmarks.processes import run
from spd_lightning.methods.stochastic import STEPS_PER_TABLE_CHECK

SYSTEM = "paper/tms_5-2"
FIRST_STEP = 300
"""Steps before this one are left out: the first log entries, allocations, files."""
AS_BARE = {"model.recipe": "null", "data.init_args.merge_empty": "true"}


def measure(options: Options) -> dict[str, Any]:
    """Mean and median milliseconds per step from step 300 on, under the trainer and in a bare loop, and the share.

    Both run alternately, each time in a new process. The bare loop takes the same steps, gate-table checks included.
    """
    rows: dict[str, list[dict[str, float]]] = {"trainer": [], "bare": []}
    for _ in trange(options.repeats, desc="Trainer's share"):
        rows["bare"].append(_per_step(_bare(options.trainer_steps)))
        under = stepped([f"{SYSTEM}.yaml"], options.trainer_steps, **AS_BARE)
        rows["trainer"].append(_per_step(under))
    means = {name: statistics.median(row["mean_ms"] for row in rows[name]) for name in rows}
    medians = {name: statistics.median(row["median_ms"] for row in rows[name]) for name in rows}
    return {
        "system": SYSTEM,
        "first_step": FIRST_STEP,
        "last_step": options.trainer_steps,
        "mean_ms": means,
        "median_ms": medians,
        "share_of_bare_mean": means["trainer"] / means["bare"] - 1,
        "share_of_bare_median": medians["trainer"] / medians["bare"] - 1,
        "repeats": rows,
    }


def _per_step(ended: list[float]) -> dict[str, float]:
    window = ended[FIRST_STEP - 1 :]
    steps = [later - earlier for earlier, later in itertools.pairwise(window)]
    return {"mean_ms": 1e3 * statistics.mean(steps), "median_ms": 1e3 * statistics.median(steps)}


def _bare(steps: int) -> list[float]:
    ended: list[float] = json.loads(run(["benchmarks.trainer_share", str(steps)]).splitlines()[-1])
    return ended


def main() -> None:
    """Take as many steps as the command line says; print when each ended."""
    loop, ended = Loop(systems.read(SYSTEM), "fast"), []
    for index in range(int(sys.argv[1])):
        if index % STEPS_PER_TABLE_CHECK == 0:
            loop.check_tables()
        loop.step()
        ended.append(time.perf_counter())
    print(json.dumps(ended))


if __name__ == "__main__":
    main()
