"""Time and memory of clustering, on firings of planted groups.

    python -m benchmarks.clustering_cost [--components N ...] [--positions N ...]

Components grow while positions stay, and positions while components stay; every case is a process of its own. Prints
the tables that docs/analysis.md quotes: seconds of the processor, megabytes above the firings, and how both grow.
"""

import argparse
import time

import torch

from benchmarks.growth import forget_peak, measured
from spd_lightning.analysis import Firings, cluster
from spd_lightning.functional import adjusted_rand_index, keyed_generator
from spd_lightning.runs.memory import peak_memory

SIZES = {"components": (1_000, 4_000, 10_000, 40_000), "positions": (1 << 12, 1 << 13, 1 << 14, 1 << 15)}
STAYING = {"components": 4_000, "positions": 1 << 14}
"""What one of them is while the other grows."""
AT_ONCE = 200
"""Components that are important on a unit, in the mean."""
MEMBERS, MISSED = 5, 0.1
"""Components in a group, and the share of its activity that each misses."""


def planted(n_components: int, n_units: int, generator: torch.Generator) -> tuple[Firings, torch.Tensor]:
    """Groups whose frequencies fall like one over their rank, and the group of every component."""
    groups = n_components // MEMBERS
    frequency = 1 / torch.arange(2, groups + 2)
    often = (frequency * n_units * AT_ONCE / (1 - MISSED) / MEMBERS / frequency.sum()).clamp(4, n_units / 2).long()
    components, units = [], []
    for group, count in enumerate(often.tolist()):
        active = torch.randperm(n_units, generator=generator)[:count].sort().values
        for member in range(MEMBERS):
            there = active[torch.rand(count, generator=generator) >= MISSED]
            components.append(torch.full((len(there),), group * MEMBERS + member, dtype=torch.int32))
            units.append(there.int())
    firings = Firings({"site": n_components}, n_units, torch.cat(components), torch.cat(units))
    return firings, torch.arange(groups).repeat_interleave(MEMBERS)


def measure(n_components: int, n_units: int) -> dict[str, float]:
    """Cluster once in this process."""
    firings, truth = planted(n_components, n_units, keyed_generator("clustering cost", n_components))
    forget_peak()
    before, began = peak_memory(), time.process_time()
    found = cluster(firings)
    seconds = time.process_time() - began
    kept = found.labels >= 0
    return {
        "components": n_components,
        "positions": n_units,
        "firings": len(firings.units),
        "planted groups": n_components // MEMBERS,
        "found": len(found.firings),
        "adjusted Rand index": adjusted_rand_index(found.labels[kept], truth[kept]),
        "seconds": seconds,
        "MB": (peak_memory() - before) / 1e6,
    }


def main() -> None:
    """Measure all cases, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measured(parser, SIZES, STAYING, measure)


if __name__ == "__main__":
    main()
