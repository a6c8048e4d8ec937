"""Shares along paths against every path counted, and pruning against every smaller graph."""

import itertools
import random

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.analysis import (
    AttributionGraph,
    beginnings,
    influence,
    pruned,
    share_kept,
    strongest_paths,
)
from spd_lightning.analysis.attribution_graph import COMPONENT, INPUT, OUTPUT, REST


def graph_of(places, edges, kinds=None, occurs=None):
    """A graph from the place of every node and ``(source, target, value)`` of every edge."""
    total, entering = (torch.zeros(len(places), dtype=torch.float64) for _ in range(2))
    for _, target, value in edges:
        total[target] += abs(value)
        entering[target] += value
    last = max(places)
    kinds = kinds or [OUTPUT if p == last else COMPONENT if total[n] > 0 else INPUT for n, p in enumerate(places)]
    ones, signed = torch.ones_like(total), torch.tensor([value for *_, value in edges], dtype=torch.float64)
    return AttributionGraph(
        places=tuple(f"place {number}" for number in range(last + 1)),
        kind=torch.tensor(kinds),
        place=torch.tensor(places),
        index=torch.arange(len(places)),
        position=torch.full((len(places),), -1),
        value=ones,
        importance=ones if occurs is None else torch.tensor(occurs, dtype=torch.float64),
        entering=entering,
        total=total,
        source=torch.tensor([edge[0] for edge in edges]),
        target=torch.tensor([edge[1] for edge in edges]),
        signed=signed,
        absolute=signed.abs(),
    )


def drawn(seed):
    """A small random graph with an edge or more into its output."""
    draw = random.Random(seed)
    sizes = [draw.randint(1, 3) for _ in range(draw.randint(2, 3))] + [1]
    places = [place for place, size in enumerate(sizes) for _ in range(size)]
    pairs = [(i, j) for i, j in itertools.combinations(range(len(places)), 2) if places[i] < places[j]]
    pairs = [(0, len(places) - 1), *draw.sample(pairs[1:], min(9, len(pairs) - 1))]
    return graph_of(places, [(i, j, draw.gauss(0, 1)) for i, j in dict.fromkeys(pairs)])


def every_path(graph, edges):
    """Whole paths of some edges, as ``(nodes, share, sign)``, each followed back from an output."""
    into = {}
    for edge in edges:
        target = int(graph.target[edge])
        share = float(graph.absolute[edge] / graph.total[target])
        into.setdefault(target, []).append((int(graph.source[edge]), share, 1 if graph.signed[edge] > 0 else -1))
    outputs = [node for node in range(graph.n_nodes) if graph.kind[node] == OUTPUT and graph.total[node] > 0]
    occurs = sum(float(graph.importance[node]) for node in outputs)
    found, waiting = [], [((node,), float(graph.importance[node]) / occurs, 1) for node in outputs]
    while waiting:
        nodes, share, sign = waiting.pop()
        if graph.total[nodes[0]] == 0:
            found.append((nodes, share, sign))
        waiting += [((s, *nodes), share * part, sign * way) for s, part, way in into.get(nodes[0], [])]
    return found


def kept_by(graph, edges):
    return sum(share for _, share, _ in every_path(graph, edges))


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_are_those_of_all_paths_together(seed):
    graph = drawn(seed)
    paths = every_path(graph, range(graph.n_edges))
    through = [sum(share for nodes, share, _ in paths if node in nodes) for node in range(graph.n_nodes)]

    assert influence(graph).tolist() == pytest.approx(through)
    assert share_kept(graph) == pytest.approx(1) == pytest.approx(sum(beginnings(graph).values()))
    found = strongest_paths(graph, 1000)
    assert sorted((path.nodes, path.sign) for path in found) == sorted((nodes, sign) for nodes, _, sign in paths)
    assert [path.share for path in found] == pytest.approx(sorted((share for _, share, _ in paths), reverse=True))
    assert strongest_paths(graph, 2) == found[:2]


def test_pruning_keeps_the_share_and_nothing_of_it_can_be_spared():
    """Against all graphs of fewer edges: none within the result keeps the share, and few others are smaller."""
    larger = []
    for seed, share in itertools.product(SEEDS, (0.5, 0.8)):
        graph = drawn(seed)
        small = pruned(graph, share)
        edges = range(small.n_edges)
        assert kept_by(small, edges) >= share - 1e-9
        assert share_kept(small) == pytest.approx(kept_by(small, edges))
        for count in edges:
            for some in itertools.combinations(edges, count):
                assert kept_by(small, some) < share
        sizes = (
            count
            for count in range(1, graph.n_edges + 1)
            if any(kept_by(graph, some) >= share for some in itertools.combinations(range(graph.n_edges), count))
        )
        larger.append(small.n_edges - next(sizes))
    assert max(larger) <= 2
    assert larger.count(0) >= 0.85 * len(larger)


def test_a_whole_share_keeps_all_that_reaches_the_output():
    # node 2 reads node 0 and reaches nothing
    graph = graph_of([0, 0, 1, 1, 2], [(0, 2, 1.0), (0, 3, 2.0), (1, 3, -1.0), (3, 4, 5.0)])
    small = pruned(graph, 1.0)
    assert [small.name_of(node) for node in range(small.n_nodes)] == [
        "place 0:0",
        "place 0:1",
        "place 1:3",
        "place 2:4",
    ]
    assert list(zip(small.source.tolist(), small.target.tolist(), small.signed.tolist(), strict=True)) == [
        (0, 2, 2.0),
        (1, 2, -1.0),
        (2, 3, 5.0),
    ]
    assert small.total.tolist() == [0, 0, 3, 5]


def test_outputs_count_as_often_as_they_occur():
    graph = graph_of([0, 0, 1, 1], [(0, 2, 1.0), (1, 3, -4.0)], [INPUT, REST, OUTPUT, OUTPUT], [1, 1, 3, 1])
    assert influence(graph).tolist() == [0.75, 0.25, 0.75, 0.25]
    assert beginnings(graph) == {"input": 0.75, "component": 0, "rest": 0.25, "bias": 0}
    assert [(path.nodes, path.share, path.sign) for path in strongest_paths(graph, 5)] == [
        ((0, 2), 0.75, 1),
        ((1, 3), 0.25, -1),
    ]


@pytest.mark.parametrize("share", [0, -0.1, 1.1, True, "much"])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UsageError, match="graph: share must"):
        pruned(drawn(0), share)


def test_a_graph_that_reaches_nothing_is_refused():
    graph = graph_of([0, 1, 2], [(0, 1, 1.0)])
    with pytest.raises(UsageError, match="nothing reaches the outputs"):
        pruned(graph, 0.5)
    assert strongest_paths(graph, 3) == []
    with pytest.raises(UsageError, match="paths must be at least 1"):
        strongest_paths(graph, 0)
