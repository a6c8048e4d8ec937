"""What a step of ``default.yaml`` costs beside one of a system's own recipe: ``python -m benchmarks.recipe_cost``.

Whole runs of few steps, so that every phase of the schedules is in them, alternate in processes of their own. Times of
a run are of its steps alone, without warm-up, validation and test; of several runs the median.
"""

import argparse
import statistics

import torch

from benchmarks.clocks import stepped
from benchmarks.tables import table
from spd_lightning.sweep.configs import lookup, read_configs

SYSTEMS = ("tms", "tms_5-2-id", "tms_40-10", "tms_40-10-id", "residual_mlp_1", "ping_pong")
HEADER = ("system", "own recipe", "default.yaml", "ratio of a step", "steps", "ratio of a run")


def step_ms(configs: list[str], steps: int) -> float:
    """Mean milliseconds of a step from the second on."""
    ended = stepped(configs, steps, **{"model.recipe": "null"})
    return 1e3 * (ended[-1] - ended[0]) / (len(ended) - 1)


def row(system: str, steps: int, repeats: int) -> list[str]:
    """One system as a line of the table."""
    recipes = {"own": [f"{system}.yaml"], "default": [f"{system}.yaml", "default.yaml"]}
    taken: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(repeats):
        for name, configs in recipes.items():
            taken[name].append(step_ms(configs, steps))
    own, default = (statistics.median(taken[name]) for name in recipes)
    whole = [_steps(configs) for configs in recipes.values()]
    ratio = default / own
    times = [f"{own:.1f} ms", f"{default:.1f} ms", f"{ratio:.1f}"]
    return [system, *times, f"{whole[0]}, {whole[1]}", f"{ratio * whole[1] / whole[0]:.1f}"]


def _steps(configs: list[str]) -> int:
    """Of a whole run."""
    return int(lookup(read_configs(configs, {}, [{}])[0], "trainer.max_steps"))


def main() -> None:
    """Print a line as each is done, with the table's head before them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe_cost", description=__doc__)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, help="names of shipped configs; default: all six")
    parser.add_argument("--steps", type=int, default=400, help="of a run; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\n".join(table(HEADER, [])), flush=True)
    for system in options.systems:
        print(table(HEADER, [row(system, options.steps, options.repeats)])[-1], flush=True)


if __name__ == "__main__":
    main()
