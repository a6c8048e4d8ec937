"""Time and memory of clustering, on firings of planted groups.

    python -m benchmarks.clustering_cost [COMPONENTS ...]

Every size is a process of its own. Prints the table that docs/analysis.md quotes.
"""

import argparse
import json
import sys
import time

import torch

from benchmarks.processes import run
from spd_lightning.analysis import Firings, cluster
from spd_lightning.functional import adjusted_rand_index, keyed_generator
from spd_lightning.runs.memory import peak_memory

SIZES = (1_000, 4_000, 10_000, 40_000)
UNITS = 1 << 16
AT_ONCE = 200
"""Components that are important on a unit, in the mean."""
MEMBERS, MISSED = 5, 0.1
"""Components in a group, and the share of its activity that each misses."""


def planted(n_components: int, generator: torch.Generator) -> tuple[Firings, torch.Tensor]:
    """Groups whose frequencies fall like one over their rank, and the group of every component."""
    groups = n_components // MEMBERS
    frequency = 1 / torch.arange(2, groups + 2)
    often = (frequency * UNITS * AT_ONCE / (1 - MISSED) / MEMBERS / frequency.sum()).clamp(4, UNITS / 2).long()
    components, units = [], []
    for group, count in enumerate(often.tolist()):
        active = torch.randperm(UNITS, generator=generator)[:count].sort().values
        for member in range(MEMBERS):
            there = active[torch.rand(count, generator=generator) >= MISSED]
            components.append(torch.full((len(there),), group * MEMBERS + member, dtype=torch.int32))
            units.append(there.int())
    firings = Firings({"site": n_components}, UNITS, torch.cat(components), torch.cat(units))
    return firings, torch.arange(groups).repeat_interleave(MEMBERS)


def measure(n_components: int) -> dict[str, float]:
    """Cluster once in this process."""
    firings, truth = planted(n_components, keyed_generator("clustering cost", n_components))
    before, began = peak_memory(), time.perf_counter()
    found = cluster(firings)
    seconds = time.perf_counter() - began
    kept = found.labels >= 0
    return {
        "components": n_components,
        "firings": len(firings.units),
        "groups": len(found.firings),
        "agreement": adjusted_rand_index(found.labels[kept], truth[kept]),
        "seconds": seconds,
        "before_mb": before / 1e6,
        "peak_mb": peak_memory() / 1e6,
    }


def main() -> None:
    """Measure all sizes, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("components", nargs="*", type=int, default=SIZES)
    parser.add_argument("--here", action="store_true", help="measure one size in this process, and print JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.components[0])))
        return
    print("| components | firings | planted groups | found | adjusted Rand index | seconds | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for count in options.components:
        row = json.loads(run(["benchmarks.clustering_cost", str(count), "--here"]).splitlines()[-1])
        print(
            f"| {count:,} | {row['firings']:,} | {count // MEMBERS:,} | {row['groups']:,} | {row['agreement']:.3f} | "
            f"{row['seconds']:.0f} | {row['peak_mb']:.0f} |"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
