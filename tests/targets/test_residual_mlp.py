"""The residual MLP by hand-made weights."""

import pytest
import torch

from spd_lightning import DecomposedModel, FeatureTraining, ResidualMLP, SiteMask, UsageError
from spd_lightning.targets import KnownMechanisms, Mechanisms


def _network(**sizes):
    """Few features, in double precision."""
    return ResidualMLP(**({"n_features": 5, "n_layers": 2, "d_mlp": 3, "d_embed": 7} | sizes)).double()


@torch.no_grad()
def _by_hand():
    """Two features on two dimensions, the second one turned; two layers of one neuron."""
    network = _network(n_features=2, d_mlp=1, d_embed=2)
    network.embedding.copy_(torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64))
    first, second = network.layers
    first.mlp_in.weight.copy_(torch.tensor([[1.0, 1.0]]))
    first.mlp_out.weight.copy_(torch.tensor([[0.0], [2.0]]))
    second.mlp_in.weight.copy_(torch.tensor([[-1.0, 1.0]]))
    second.mlp_out.weight.copy_(torch.tensor([[1.0], [0.0]]))
    return network


@torch.no_grad()
def _perfect():
    """A neuron per feature, on orthogonal features."""
    network = _network(n_features=4, n_layers=2, d_mlp=2, d_embed=4)
    eye = torch.eye(4)
    network.embedding.copy_(eye)
    for index, layer in enumerate(network.layers):
        served = eye[2 * index : 2 * index + 2]
        layer.mlp_in.weight.copy_(served)
        layer.mlp_out.weight.copy_(served.T)
    return network


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        # stream (1, 0); the first layer adds (0, 2): (1, 2); the second max(0, -1 + 2) to the left: (2, 2)
        ([1.0, 0.0], [2.0, 2.8]),
        # stream (0.6, 0.8), then (0.6, 3.6), then (3.6, 3.6)
        ([0.0, 1.0], [3.6, 5.04]),
        # stream (-1, 0): the first neuron is off; the second adds max(0, 1) to the left: (0, 0)
        ([-1.0, 0.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_forward_by_hand(x, expected):
    assert _by_hand()(torch.tensor(x, dtype=torch.float64)).tolist() == pytest.approx(expected, rel=1e-12)


def test_the_stream_may_be_given_instead_of_the_features():
    network, x = _network(), torch.randn(6, 5, dtype=torch.float64)

    assert torch.equal(network.through(x @ network.embedding), network(x))


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (2, 1, 3)], ids=str)
def test_leading_dimensions_are_independent_examples(leading):
    network, x = _network(), torch.randn(*leading, 5, dtype=torch.float64)

    output = network(x)

    assert output.shape == (*leading, 5)
    rows = [network(row) for row in x.reshape(-1, 5)]
    torch.testing.assert_close(output.reshape(-1, 5), torch.stack(rows), rtol=1e-12, atol=1e-12)


def test_what_is_wanted_is_the_input_plus_its_positive_part():
    assert ResidualMLP.label(torch.tensor([-0.5, 0.0, 0.75])).tolist() == [-0.5, 0.0, 1.5]


def test_embedded_features_have_length_one_in_unrelated_directions():
    embedding = ResidualMLP(40, d_embed=1000).embedding.double()
    overlaps = embedding @ embedding.T

    torch.testing.assert_close(overlaps.diagonal(), torch.ones(40, dtype=torch.float64), rtol=0, atol=1e-6)
    # cosines of random directions in 1000 dimensions are about 1 / sqrt(1000) in size
    assert overlaps.fill_diagonal_(0).abs().max() < 5 / 1000**0.5
    assert overlaps.square().sum() / (40 * 39) == pytest.approx(1 / 1000, rel=0.2)


def test_the_embedding_depends_on_its_seed_alone():
    torch.manual_seed(1)
    first = ResidualMLP(5, 1, d_embed=7)
    torch.manual_seed(2)
    again, other = ResidualMLP(5, 3, d_mlp=4, d_embed=7), ResidualMLP(5, 1, d_embed=7, embedding_seed=1)

    assert torch.equal(first.embedding, again.embedding)
    assert not torch.equal(first.embedding, other.embedding)
    assert not torch.equal(first.layers[0].mlp_in.weight[:4], again.layers[0].mlp_in.weight)


def test_new_weights_leave_the_embedding_as_it_is():
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    network.reset_parameters()

    kept = [name for name, tensor in network.state_dict().items() if torch.equal(tensor, before[name])]
    assert kept == ["embedding"]


def test_training_moves_every_layer_and_never_the_embedding():
    network, start = (ResidualMLP(6, n_layers=2, d_mlp=3, d_embed=20) for _ in range(2))
    torch.manual_seed(0)
    start.reset_parameters()  # where training with seed 0 begins

    options = {"steps": 200, "batch_size": 256, "lr": 1e-2, "feature_probability": 0.3, "value_min": -1.0}
    FeatureTraining(**options, schedule="quarter_cosine", seed=0).prepare(network)  # a flaw would be an error

    assert torch.equal(network.embedding, start.embedding)
    assert not network.embedding.requires_grad
    moved = [name for name, weight in network.named_parameters() if not torch.equal(weight, start.get_parameter(name))]
    assert moved == [f"layers.{index}.{name}.weight" for index in (0, 1) for name in ("mlp_in", "mlp_out")]


def test_a_perfect_network_has_no_flaws():
    network = _perfect()
    x = torch.randn(100, 4, dtype=torch.float64)

    torch.testing.assert_close(network(x), network.label(x))
    assert network.gain() == pytest.approx(1.0, abs=1e-12)
    assert network.flaws() == []


@pytest.mark.parametrize(("scale", "gain"), [(0.0, "0.000"), (float("nan"), "nan")])
@torch.no_grad()
def test_a_network_that_gains_nothing_says_so(scale, gain):
    network = _perfect()
    for layer in network.layers:
        layer.mlp_out.weight.mul_(scale)

    assert network.flaws() == [f"it removes {gain} of the error that outputting x would leave, at least 0.55 is usual"]


def test_an_untrained_network_is_flawed():
    assert ResidualMLP(100, d_mlp=50).flaws()


def test_known_mechanisms_tell_reading_from_writing_layers():
    network = _network(n_features=3, d_mlp=2)

    assert isinstance(network, KnownMechanisms)
    assert network.known_mechanisms() == {
        "layers.0.mlp_in": Mechanisms("identity", 3, [0, 1, 2], None),
        "layers.0.mlp_out": Mechanisms("dense", 2, [0, 1, 2], None),
        "layers.1.mlp_in": Mechanisms("identity", 3, [0, 1, 2], None),
        "layers.1.mlp_out": Mechanisms("dense", 2, [0, 1, 2], None),
    }


@pytest.mark.parametrize("size", ["n_features", "n_layers", "d_mlp", "d_embed"])
def test_sizes_that_make_no_network_are_refused(size):
    with pytest.raises(UsageError, match=f"^ResidualMLP: {size} must be at least 1, got 0$"):
        ResidualMLP(**({"n_features": 3, "d_embed": 4} | {size: 0}))


def test_all_components_and_the_delta_make_the_network_again():
    network = _network()
    model = DecomposedModel(network, {"layers.*.mlp_in": 6, "layers.*.mlp_out": 4}).double()
    x = torch.randn(8, 5, dtype=torch.float64)
    masks = {
        name: SiteMask(x.new_ones(8, parts.n_components), x.new_ones(8)) for name, parts in model.components.items()
    }

    assert list(masks) == list(network.known_mechanisms())
    torch.testing.assert_close(model.masked(x, masks).output, network(x), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(model(x), network(x))  # the components alone, which start at random
