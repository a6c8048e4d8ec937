"""Which networks are drawn, and what of them."""

import pytest
import torch
from torch import nn

from spd_lightning import ResidualMLP, StochasticDecomposition, ToyModelOfSuperposition, UsageError
from spd_lightning.callbacks import NetworkDiagram, network_diagram
from tests.callbacks.perfect import Rows, Unprobed
from tests.methods.tiny import OwnNetwork, features, fit, toy


class Layers(nn.Sequential):
    """Linear layers with something between them."""

    def __init__(self, *between, bias=True):
        width = 3
        layers = [nn.Linear(width, width, bias=bias)]
        for step in between:
            layers += [step, nn.Linear(width, width, bias=bias)]
        super().__init__(*layers)


class Backwards(Layers):
    """Runs its layers in the other order than it lists them."""

    def forward(self, x):
        return self[0](self[2](x))


@pytest.fixture
def drawn(noted):
    """Arguments of every picture that is drawn."""
    return noted(network_diagram, "network_diagram")


def test_live_components_are_drawn_in_the_order_of_their_features(perfect, examples, run, drawn):
    order = torch.tensor([2, 3, 0, 1])  # component 0 was for feature 0, and now is component 2; the idle one is 1
    with torch.no_grad():
        for name, parts in perfect.model.components.items():
            parts.V.copy_(parts.V[:, order])
            parts.U.copy_(parts.U[order])
            gate = perfect.model.importance_function.functions[name]
            gate.weights[0].copy_(gate.weights[0][order])

    folder = run(perfect, Rows(examples), NetworkDiagram()).folder

    ((sites, shown, title),) = drawn
    assert shown == {("linear1",): [2, 3, 0], ("linear2",): [2, 3, 0]}
    for name, (weight, read, write) in sites.items():
        parts = perfect.model.components[name]
        assert torch.equal(weight, parts.site.weight())
        assert torch.equal(read, parts.V)
        assert torch.equal(write, parts.U)
    assert title == "Network, and components of importance above 0.1 on single-feature probes"
    assert [path.name for path in (folder / "figures").iterdir()] == ["test_network_diagram.png"]


def test_the_threshold_decides_what_is_live(perfect, examples, run, drawn):
    with torch.no_grad():
        perfect.model.importance_function.functions["linear1"].weights[0][1] = 0.5  # importance 0.5 * 0.75

    run(perfect, Rows(examples), NetworkDiagram(threshold=0.5))

    assert drawn[0][1] == {("linear1",): [0, 2], ("linear2",): [0, 1, 2]}
    assert "above 0.5" in drawn[0][2]


def test_tied_sites_are_drawn_together_and_said_to_be(examples, run, drawn):
    module = StochasticDecomposition(
        ToyModelOfSuperposition(3, 2), {"linear1": 4, "linear2": 4}, ties={"linear2": "linear1"}
    )

    run(module, Rows(examples), NetworkDiagram(threshold=0.0))

    ((_, shown, title),) = drawn
    assert list(shown) == [("linear1", "linear2")]
    assert title.endswith("\nlinear1 and linear2 are tied: a component of one is a component of the other")


def test_it_is_drawn_in_validation_at_its_rhythm(tmp_path):
    diagram = NetworkDiagram(every_n_validations=2)

    fit(toy(), features(), tmp_path, callbacks=[diagram], val_check_interval=2, limit_val_batches=None)

    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["val_network_diagram.png"]


@pytest.mark.parametrize(
    ("target", "sites"),
    [
        (
            ToyModelOfSuperposition(3, 2, n_identity_layers=2),
            ["linear1", "hidden_layers.0", "hidden_layers.1", "linear2"],
        ),
        (ResidualMLP(3, d_mlp=2, d_embed=4), ["layers.0.mlp_in", "layers.0.mlp_out"]),
        (Layers(nn.GELU(), nn.Tanh()), ["0", "2", "4"]),
        (OwnNetwork(width=3), ["head"]),
        (OwnNetwork(width=3), ["blocks.0.0", "blocks.0.2"]),
    ],
)
def test_chains_are_drawn(target, sites, examples, run, drawn):
    module = StochasticDecomposition(target, dict.fromkeys(sites, 4))

    run(module, Rows(examples), NetworkDiagram())

    assert list(drawn[0][0]) == sites


@pytest.mark.parametrize(
    ("target", "sites", "pair"),
    [
        (
            ResidualMLP(3, n_layers=2, d_mlp=2, d_embed=4),
            ["layers.*.*"],
            "'layers.1.mlp_in' does not read 'layers.0.mlp_out'",
        ),
        (OwnNetwork(width=3), ["blocks.*.2", "head"], "'blocks.1.2' does not read 'blocks.0.2'"),
        (Layers(nn.Linear(3, 3)), ["0", "2"], "'2' does not read '0'"),
        (Layers(nn.Softmax(-1)), ["0", "2"], "'2' does not read '0'"),
        (Backwards(nn.ReLU()), ["0", "2"], "'2' does not read '0'"),
    ],
    ids=["stream", "widths", "layer between", "mixing between", "order"],
)
def test_sites_that_are_no_chain_are_refused(target, sites, pair, examples, run):
    module = StochasticDecomposition(target, dict.fromkeys(sites, 4))

    with pytest.raises(UsageError, match=f"^NetworkDiagram: sites must form a chain, but {pair} alone; remove"):
        run(module, Rows(examples), NetworkDiagram())


def test_checking_leaves_nothing_behind(perfect, examples, run):
    before = {name: vars(parts.site).copy() for name, parts in perfect.model.components.items()}

    run(perfect, Rows(examples), NetworkDiagram())

    assert {name: vars(parts.site) for name, parts in perfect.model.components.items()} == before


def test_data_without_probes_are_refused(perfect, examples, run):
    with pytest.raises(UsageError, match=r"NetworkDiagram needs a data module with a method probes\(magnitude\)"):
        run(perfect, Unprobed(examples), NetworkDiagram())
