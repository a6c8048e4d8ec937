import pytest
import torch

from spd_lightning import ContributionSparsity, DecomposedModel, UsageError
from spd_lightning.functional import contribution_sparsity
from spd_lightning.losses import Noise, Step
from spd_lightning.model import FastOptions
from spd_lightning.targets import ResidualMLP
from tests import reference
from tests.comparison import assert_same_with_gradients

MLP_SITES = {"layers.*.mlp_in": 4, "layers.*.mlp_out": 3}


@pytest.fixture
def residual_mlp():
    """A residual MLP of two layers in float64, decomposed at random, and inputs."""
    torch.manual_seed(0)
    model = DecomposedModel(ResidualMLP(5, n_layers=2, d_mlp=3, d_embed=7, embedding_seed=0), MLP_SITES).double()
    return model, torch.rand(6, 5, dtype=torch.float64)


def _restated(model, step, names):
    sites = [(step.clean.site_inputs[name], model.components[name]) for name in names]
    return reference.contribution_sparsity([(a.reshape(-1, a.shape[-1]), p.V, p.U) for a, p in sites])


@pytest.mark.parametrize("ties", [None, {"linear2": "linear1"}])
def test_equals_the_reference(make_model, make_step, x, ties):
    model = make_model(sites={"linear*": 4}, ties=ties)
    step = make_step(model, x)
    loss = ContributionSparsity()(step)
    assert_same_with_gradients(loss, _restated(model, step, model.site_names), model.components.parameters())


def test_counts_only_the_sites_it_names(make_model, make_step, x):
    model = make_model()
    step = make_step(model, x)
    loss = ContributionSparsity(sites=["*2"])(step)
    assert_same_with_gradients(loss, _restated(model, step, ["linear2"]), model.components["linear2"].parameters())


def test_by_hand():
    """Two examples and components: (1 * 5 + 2 * 1) and (3 * 5 + 0 * 1), so a mean of 11."""
    inner, write = torch.tensor([[1.0, -2.0], [-3.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert contribution_sparsity([(inner, write)]).item() == 11
    weights = torch.tensor([0.75, 0.25])
    assert contribution_sparsity([(inner, write)], weights).item() == 0.75 * 7 + 0.25 * 15


def test_one_component_for_a_direction_is_cheaper_than_two_that_pull_apart():
    inner, whole = torch.ones(1, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    split = torch.tensor([[0.5, 1.0], [0.5, -1.0]])
    torch.testing.assert_close(split.sum(0), whole.sum(0))
    assert contribution_sparsity([(inner, whole)]) < contribution_sparsity([(inner, split)])


def test_components_that_write_nothing_get_no_undefined_gradient():
    inner, write = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    contribution_sparsity([(inner, write)]).backward()
    assert not inner.grad.any()
    assert not write.grad.any()


def test_fast_and_plain_agree_on_a_residual_stream(residual_mlp):
    model, x = residual_mlp
    plain = Step.of(model, x, Noise((0,), x.device))
    fast = Step.fast_of(model, x, Noise((0,), x.device), options=FastOptions(nodes=0, compiled=False))
    loss = ContributionSparsity(sites=["*mlp_in"])
    assert_same_with_gradients(loss(fast), loss(plain), model.components.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [({"coefficient": -1.0}, "coefficient must be"), ({"sites": "linear1"}, "ContributionSparsity: sites")],
)
def test_refuses_by_name(options, said):
    with pytest.raises(UsageError, match=said):
        ContributionSparsity(**options)


def test_refuses_patterns_that_match_nothing(make_model, make_step, x):
    with pytest.raises(UsageError, match=r"ContributionSparsity: sites \['layers\.\*'\] match none of"):
        ContributionSparsity(sites=["layers.*"])(make_step(make_model(), x))
