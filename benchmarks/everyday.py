"""What ``decompose`` makes of small networks of everyday kinds: ``python -m benchmarks.everyday --seeds 0-2``.

The networks are those of the tests (``tests/notebook/networks.py``), trained anew for every seed; nobody knows their
mechanisms. Errors are on held-out examples, in shares of what ablating everything costs.
"""

import contextlib
import io
from collections.abc import Sequence

import torch

from benchmarks.seeds.seed_lists import read_seeds
from benchmarks.tables import table
from spd_lightning import SiteTransformer, decompose
from spd_lightning.errors import OneLineParser, check_whole, told_in_one_line
from spd_lightning.losses.untuned import TOLERATED
from spd_lightning.methods.default_recipe import STEPS
from spd_lightning.runs.findings import ladder, relative
from tests.notebook.networks import NETWORKS

READS_SEQUENCES = {"transformer"}
HEADER = ("network", "seed", "L0 of alive", "all components", "rounded importances", "random ablation", "adversary")


def row(name: str, seed: int, steps: int, tolerance: float) -> list[str]:
    """One decomposition in numbers, as a line of the table."""
    torch.manual_seed(seed)
    network, data, sites = NETWORKS[name]()  # type: ignore[no-untyped-call]
    importance = SiteTransformer if name in READS_SEQUENCES else None
    with contextlib.redirect_stdout(io.StringIO()):  # the verdict, of which the table has the numbers
        model = decompose(
            network, data, sites, steps, tolerance=tolerance, importance=importance, seed=seed, progress=False
        )
    scores = model.scores
    used, alive = (sum(value for key, value in scores.items() if key.startswith(kind)) for kind in ("l0/", "alive/"))
    measured = [relative(scores, kind) for kind in ("unmasked", "rounded", "stochastic")]
    shares = [f"{share:.2%}" for share in (*measured, max(share for _, share in ladder(scores)))]
    return [name, str(seed), f"{used:.1f} of {alive:.0f}", *shares]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line as each is done, with the table's head before them.

    Args:
        arguments: those of the process by default.

    Raises:
        UsageError: for arguments that cannot work.
    """
    parser = OneLineParser(prog="python -m benchmarks.everyday", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, help="default: all")
    parser.add_argument("--seeds", nargs="+", default=["0-2"], help="numbers and ranges; default: 0-2")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training; default: {STEPS}")
    parser.add_argument("--tolerance", type=float, default=TOLERATED, help=f"default: {TOLERATED}")
    options = parser.parse_args(arguments)
    check_whole("--steps", options.steps, least=1)
    seeds = [int(seed) for seed in read_seeds(options.seeds)]
    print("\n".join(table(HEADER, [])), flush=True)
    for name in options.networks:
        for seed in seeds:
            print(table(HEADER, [row(name, seed, options.steps, options.tolerance)])[-1], flush=True)


if __name__ == "__main__":
    with told_in_one_line():
        main()
