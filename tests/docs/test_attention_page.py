"""The page about attention circuits: its examples run on small decompositions of the same form."""

import re
from pathlib import Path

import pytest
import torch

from spd_lightning import DecomposedModel
from spd_lightning.analysis import attribution_graph, save_graph
from spd_lightning.analysis.attribution import examples_of
from spd_lightning.targets import AttentionOnly
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import example

PAGE = (Path(__file__).parents[2] / "docs/attention-circuits.md").read_text()


@torch.no_grad()
def _written_names():
    """A head that looks at the third token and lowers it by 3, one that looks at the first and raises it by 5."""
    target = AttentionOnly(11, 4, 44, n_layers=1, heads=2)
    for parameter in target.parameters():
        parameter.zero_()
    target.embed.weight[:, :11] = torch.eye(11)
    target.unembed.weight[:, 11:22] = torch.eye(11)
    layer, sharp = target.layers[0], 1e3
    target.positions.zero_()
    target.positions[:, 40:] = torch.eye(4)
    for head, (place, effect) in enumerate([(2, -3.0), (0, 5.0)]):
        first = 22 * head
        layer.q.weight[first, 43] = layer.k.weight[first, 40 + place] = sharp
        layer.v.weight[first : first + 11, :11] = torch.eye(11)
        layer.o.weight[11:22, first : first + 11] = effect * torch.eye(11)
    return target


def _run(words):
    """The one example that uses something."""
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if words in block)
    exec(compile(block, "docs/attention-circuits.md", "exec"), {})


def test_the_example_adds_up_what_acts_between_sites(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    batch = next(examples_of([example("token transformer")]))
    graph = attribution_graph(randomised(decomposed("token transformer")), batch, threshold=0.3)
    save_graph(graph, "runs/induction/version_0/analysis/graphs/data")
    expected = {}
    for edge in range(graph.n_edges):
        ends = graph.places[graph.place[graph.source[edge]]], graph.places[graph.place[graph.target[edge]]]
        expected[ends] = expected.get(ends, 0) + graph.absolute[edge].item()

    _run("read_graph")

    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{a} -> {b}: {sum_:.0f}" for (a, b), sum_ in sorted(expected.items(), key=lambda one: -one[1])]
    assert len(lines) > 5


def test_the_example_says_what_heads_add(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    DecomposedModel(_written_names(), {"layers.*.q": 2}).save_pretrained(Path("runs/names/version_0"))
    _run("head_logits")

    said = [re.findall(r"[+-]?\d\.\d+", line) for line in capsys.readouterr().out.splitlines()]
    (lowered_once, lowered_again, without_lowering), (once, again, without_raising) = (map(float, one) for one in said)
    assert (lowered_once, lowered_again) == (0, -3)  # the third token is the one that is repeated
    assert once + again == pytest.approx(5, abs=0.11)  # the first token is either
    assert once == pytest.approx(5 * without_lowering, abs=0.06)  # as often as the first is the answer
    assert without_raising < 0.2
