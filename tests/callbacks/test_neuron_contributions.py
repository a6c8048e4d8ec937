"""Neuron contributions of decompositions that are set by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from spd_lightning import ResidualMLP, StochasticDecomposition, UsageError
from spd_lightning.callbacks import FinalReport, NeuronContributions
from tests.callbacks.perfect import Rows, Unprobed
from tests.methods.tiny import toy

READERS = ["layers.0.mlp_in", "layers.1.mlp_in"]
BATCH = [torch.rand(4, 4)]


class OwnStream(nn.Module):
    """A stream that is read off by other directions than it is written by, and with a bias."""

    stream_readers, stream_writers = ("reader",), ("writer",)

    def __init__(self, n_outputs=3):
        super().__init__()
        self.embedding = nn.Parameter(torch.rand(3, 6))
        self.reader = nn.Linear(6, 4, bias=False)
        self.writer = nn.Linear(4, 6, bias=False)
        self.unembed = nn.Linear(6, n_outputs)

    def through(self, stream):
        return self.unembed(stream + self.writer(self.reader(stream).relu()))

    def forward(self, x):
        return self.through(x @ self.embedding)


class Unpaired(OwnStream):
    """Writers in another order than the readers."""

    stream_readers, stream_writers = ("reader", "second_reader"), ("second_writer", "writer")

    def __init__(self):
        super().__init__()
        self.second_reader = nn.Linear(6, 2, bias=False)
        self.second_writer = nn.Linear(2, 6, bias=False)


@torch.no_grad()
def perfect_layers():
    """Two layers on four orthogonal features, every ``mlp_in`` split by feature, every ``mlp_out`` by neuron."""
    target = ResidualMLP(4, n_layers=2, d_mlp=3, d_embed=4)
    target.embedding.copy_(torch.eye(4))
    for parameter in target.parameters():
        parameter.copy_(torch.rand(parameter.shape))
    module = StochasticDecomposition(target, {"layers.*.mlp_in": 5, "layers.*.mlp_out": 4})
    module.setup("test")  # draws the start now, so that no trainer draws it over what follows
    for name, parts in module.model.components.items():
        d_in = parts.site.d_in
        parts.V.copy_(torch.eye(d_in, d_in + 1))
        parts.U.copy_(torch.cat([parts.site.weight().T, torch.zeros(1, parts.site.d_out)]))
        assert torch.equal(parts.weight(), parts.site.weight()), name
    return module


def test_a_perfect_decomposition_agrees_with_the_target(run):
    result = run(perfect_layers(), Unprobed(BATCH), NeuronContributions())

    scores = {name: score for name, score in result.scores.items() if name.startswith("test/")}
    assert scores == {f"test/recovery/{reader}/pearson": pytest.approx(1, abs=1e-6) for reader in READERS}
    pictures = {path.name for path in (result.folder / "figures").iterdir()}
    assert pictures == {"test_neuron_contributions.png", "test_contribution_agreement.png"}


def test_one_layer_that_is_wrong_is_told_from_one_that_is_right(run):
    module = perfect_layers()
    parts = module.model.components["layers.1.mlp_in"]
    with torch.no_grad():
        parts.U.copy_(parts.U.flip(1))  # the right features, on other neurons
        # feature i is read by neuron j with W[j, i] and written with out[i, j]; the first four components take turns
        weight, out = parts.site.weight().numpy(), module.target.layers[1].mlp_out.weight.numpy()
    expected = np.corrcoef((out * weight.T).ravel(), (out * weight.T[:, ::-1]).ravel())[0, 1]

    scores = run(module, Unprobed(BATCH), NeuronContributions()).scores

    assert scores["test/recovery/layers.0.mlp_in/pearson"] == pytest.approx(1, abs=1e-6)
    assert scores["test/recovery/layers.1.mlp_in/pearson"] == pytest.approx(expected, abs=1e-5)
    assert expected < 0.9


def test_shrunken_components_still_correlate_and_split_ones_do_not(run):
    module = perfect_layers()
    first, second = (module.model.components[reader] for reader in READERS)
    with torch.no_grad():
        first.U.mul_(0.5)
        second.V.copy_(torch.eye(4, 5))  # three components, a neuron each, in place of one per feature
        second.V[:, :3] = second.site.weight().T
        second.U.copy_(torch.eye(5, 3))
        assert torch.equal(second.weight(), second.site.weight())

    scores = run(module, Unprobed(BATCH), NeuronContributions()).scores

    assert scores["test/recovery/layers.0.mlp_in/pearson"] == pytest.approx(1, abs=1e-6)
    assert scores["test/recovery/layers.1.mlp_in/pearson"] < 0.9


def test_components_that_write_nothing_have_no_correlation(run):
    module = perfect_layers()
    with torch.no_grad():
        module.model.components["layers.0.mlp_out"].U.zero_()

    result = run(module, Unprobed(BATCH), NeuronContributions(), FinalReport())

    assert math.isnan(result.scores["test/recovery/layers.0.mlp_in/pearson"])
    assert (result.folder / "metrics.json").is_file()


def test_outputs_are_reached_by_the_targets_own_read_out(run):
    torch.manual_seed(5)
    target = OwnStream()
    module = StochasticDecomposition(target, {"reader": 2, "writer": 3})
    module.setup("test")
    with torch.no_grad():
        reader, writer = (module.model.components[name] for name in ("reader", "writer"))
        embedding, readout = target.embedding, target.unembed.weight
        expected = (readout @ target.writer.weight) * (embedding @ target.reader.weight.T)
        every = [(readout @ writer.weight()) * (embedding @ reader.V[:, [c]]) * reader.U[c] for c in (0, 1)]
        found = torch.stack([max(rows, key=lambda row: row.max()) for rows in zip(*every, strict=True)])
    r = np.corrcoef(expected.flatten(), found.flatten())[0, 1]

    scores = run(module, Unprobed([torch.rand(4, 3)]), NeuronContributions()).scores

    assert scores["test/recovery/reader/pearson"] == pytest.approx(r, abs=1e-5)


def test_validation_logs_under_its_own_name(run):
    scores = run(perfect_layers(), Rows(BATCH, 4), NeuronContributions(), verb="validate").scores

    assert {f"val/recovery/{reader}/pearson" for reader in READERS} <= set(scores)


@pytest.mark.parametrize("verb", ["test", "validate"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (toy, "a ToyModelOfSuperposition has no linear residual stream; give it embedding, stream_readers"),
        (
            lambda: StochasticDecomposition(ResidualMLP(4, d_mlp=3, d_embed=4), {"layers.*.mlp_in": 5}),
            r"'layers.0.mlp_out' must be one of the sites; add it, or remove NeuronContributions",
        ),
        (
            lambda: StochasticDecomposition(Unpaired(), {"*reader": 2, "*writer": 2}),
            r"must come in pairs, got \[4, 2\] neurons read and \[2, 4\] written",
        ),
        (
            lambda: StochasticDecomposition(OwnStream(n_outputs=5), {"reader": 2, "writer": 2}),
            "must have one output per feature, got 5 for 3",
        ),
    ],
    ids=["no stream", "no site", "unpaired", "other outputs"],
)
def test_a_target_that_does_not_fit_is_refused_before_anything_runs(make, message, verb, run):
    with pytest.raises(UsageError, match=f"^NeuronContributions: .*{message}"):
        run(make(), Unprobed(BATCH), NeuronContributions(), verb=verb)


@pytest.mark.parametrize("n_features", [0, 21])
def test_features_that_cannot_be_drawn_are_refused(n_features):
    with pytest.raises(UsageError, match=f"^n_features must be between 1 and 20, got {n_features}$"):
        NeuronContributions(n_features)
