"""Whether the terms of hand-made attention heads come together in clusters: by firings, and by direct attributions.

    python -m benchmarks.head_clusters RUN_DIR

Prints adjusted Rand indices of live components against the layers that they are in, of one head each, which
docs/analysis.md quotes. Communities of the attribution graph, summed over examples, are Louvain's.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx
import torch

from spd_lightning.analysis import AttributionGraph, Firings, cluster, harvest, summed_graph
from spd_lightning.analysis.attribution_graph import COMPONENT
from spd_lightning.functional import adjusted_rand_index
from spd_lightning.runs.reopened import Reopened, reopened

EXAMPLES = 100
RESOLUTIONS = (0.25, 0.5, 1.0)


def by_sequence(firings: Firings, length: int) -> Firings:
    """The same with whole sequences as units."""
    pairs = torch.stack([firings.components, firings.units // length]).unique(dim=1)  # type: ignore[no-untyped-call]
    return Firings(firings.counts, firings.n_units // length, pairs[0], pairs[1])


def agreement_of_firings(firings: Firings) -> tuple[int, float]:
    """The number of clusters, and their adjusted Rand index with the layers."""
    labels = cluster(firings).labels
    kept = labels >= 0
    layers = torch.tensor([_layer(firings.name_of(number)[0]) for number in range(firings.n_components)])
    return int(labels.max()) + 1, adjusted_rand_index(labels[kept], layers[kept])


def agreement_of_graph(graph: AttributionGraph, resolution: float) -> tuple[int, float]:
    """The number of communities of live components, and their adjusted Rand index with the layers."""
    network = networkx.Graph()
    components = (graph.kind == COMPONENT).nonzero()[:, 0].tolist()
    network.add_nodes_from(components)
    for source, target, weight in zip(
        graph.source.tolist(), graph.target.tolist(), graph.absolute.tolist(), strict=True
    ):
        if network.has_node(source) and network.has_node(target):
            network.add_edge(source, target, weight=weight)
    found = networkx.community.louvain_communities(network, resolution=resolution, seed=0)
    label = {node: number for number, nodes in enumerate(found) for node in nodes}
    layers = torch.tensor([_layer(graph.places[graph.place[node]]) for node in components])
    return len(found), adjusted_rand_index(torch.tensor([label[node] for node in components]), layers)


def _layer(name: str) -> int:
    return int(name.split(".")[1])


def lines(run: Reopened, length: int, examples: int) -> Iterator[str]:
    """A line for every way of putting components together."""
    firings = harvest(run.model, run.batches).firings
    found = {"firings at positions": agreement_of_firings(firings)}
    found["firings in sequences"] = agreement_of_firings(by_sequence(firings, length))
    graph = summed_graph(run.model, run.batches, examples=examples)
    for resolution in RESOLUTIONS:
        found[f"attributions, resolution {resolution}"] = agreement_of_graph(graph, resolution)
    yield from (f"{name}: {groups} groups, adjusted Rand index {index:.2f}" for name, (groups, index) in found.items())


def main() -> None:
    """Measure a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="finished run of induction_by_hand.yaml")
    run = reopened(parser.parse_args().folder)
    sys.stdout.write("\n".join(lines(run, int(run.model.target.length), EXAMPLES)) + "\n")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
