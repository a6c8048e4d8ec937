"""The vectorised reference step says what the scalar formulas say."""

from functools import partial

import pytest
import torch

from benchmarks.reference_step import Formula, ReferenceStep, SiteNoise
from spd_lightning import DecomposedModel, PerSite, ResidualMLP, SharedMLP
from spd_lightning.targets import ToyModelOfSuperposition
from tests import reference as scalar
from tests.comparison import assert_same_with_gradients

EXAMPLES = 4
LOWER = {
    "linear": (scalar.lower_linear, scalar.lower_linear_backward),
    "one_sided": (scalar.lower_one_sided, scalar.lower_one_sided_backward),
}


def _noise(model, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return {
        term: {
            name: SiteNoise(draw(EXAMPLES, parts.n_components), draw(EXAMPLES) if model.use_delta else None)
            for name, parts in model.components.items()
        }
        for term in ("stochastic", "layerwise")
    }


def _scalar_total(model, x, noise, formula):
    """The objective from the scalar formulas."""
    sites = {name: (parts.site.weight(), parts.V, parts.U) for name, parts in model.components.items()}
    received, inputs = x, {}
    for name, (W, _, _) in sites.items():  # the toy model is linear up to its last layer
        inputs[name] = received
        received = received @ W.T
    gates = model.importance_function.functions
    z = {
        name: scalar.gate_mlp(inputs[name] @ V, list(gates[name].weights), list(gates[name].biases))
        for name, (_, V, _) in sites.items()
    }
    g = {name: scalar.elementwise(*LOWER[model.leak], z[name]) for name in sites}
    upper = {name: scalar.elementwise(scalar.upper, scalar.upper_backward, z[name]) for name in sites}
    bias = model.target.linear2.bias

    def term(name, reconstruction):
        masks = {site: scalar.mask(g[site], noise[name][site].source) for site in sites}
        deltas = {site: noise[name][site].delta for site in sites} if model.use_delta else None
        return reconstruction(scalar.mse, x, sites, bias, masks, deltas)

    return (
        formula.faithfulness * scalar.faithfulness(sites.values())
        + formula.stochastic * term("stochastic", scalar.joint_reconstruction)
        + formula.layerwise * term("layerwise", scalar.layerwise_reconstruction)
        + formula.importance * scalar.importance_minimality(list(upper.values()), formula.p)
    )


@pytest.mark.parametrize("use_delta", [False, True])
@pytest.mark.parametrize("leak", LOWER)
@pytest.mark.parametrize(("n_identity_layers", "p"), [(0, 1.0), (1, 2.0)])
def test_it_equals_the_scalar_formulas(make_model, n_identity_layers, p, leak, use_delta):
    sites = {"linear1": 4, "linear2": 3, **{f"hidden_layers.{index}": 3 for index in range(n_identity_layers)}}
    model = make_model(sites, n_identity_layers=n_identity_layers, leak=leak, use_delta=use_delta)
    x = torch.rand(EXAMPLES, 5, dtype=torch.float64)
    formula = Formula(faithfulness=0.7, stochastic=1.3, layerwise=0.6, importance=0.2, p=p)
    noise = _noise(model, 3)
    total, _ = ReferenceStep(model, formula, torch.float64)(x, noise=noise)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert_same_with_gradients(total, _scalar_total(model, x, noise, formula), trained)


def test_weights_stand_for_repeated_examples(make_model):
    model = make_model(use_delta=True)
    x = torch.rand(EXAMPLES, 5, dtype=torch.float64)
    times = torch.tensor([1, 3, 2, 2])
    noise = _noise(model, 4)
    repeated = {
        term: {
            name: SiteNoise(*(part.repeat_interleave(times, 0) for part in drawn)) for name, drawn in by_site.items()
        }
        for term, by_site in noise.items()
    }
    step = ReferenceStep(model, Formula(), torch.float64)
    weighted, _ = step(x, times / times.sum(), noise)
    whole, _ = step(x.repeat_interleave(times, 0), noise=repeated)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert_same_with_gradients(weighted, whole, trained)


@pytest.mark.parametrize("target", [ToyModelOfSuperposition(5, 2, n_identity_layers=2), ResidualMLP(5, 2, 4, 7)])
def test_with_the_delta_component_and_full_masks_the_target_is_left_as_it_is(target):
    layers = [name for name, module in target.named_modules() if isinstance(module, torch.nn.Linear)]
    model = DecomposedModel(target, dict.fromkeys(layers, 3)).double()
    x = torch.rand(EXAMPLES, 5, dtype=torch.float64)
    ones = {
        name: SiteNoise(torch.ones(EXAMPLES, parts.n_components).double(), torch.ones(EXAMPLES).double())
        for name, parts in model.components.items()
    }
    _, terms = ReferenceStep(model, Formula(), torch.float64)(x, noise={"stochastic": ones, "layerwise": ones})
    assert terms["stochastic"] < 1e-24
    assert terms["layerwise"] < 1e-24


def test_without_given_noise_every_call_draws_its_own(make_model):
    model = make_model(use_delta=True)
    step, x = ReferenceStep(model, Formula(), torch.float64), torch.rand(EXAMPLES, 5)
    assert step(x)[0] != step(x)[0]


def test_gates_it_does_not_know_are_refused(make_model):
    model = make_model(importance=partial(PerSite, function=SharedMLP))
    with pytest.raises(ValueError, match="one hidden layer"):
        ReferenceStep(model, Formula())(torch.rand(EXAMPLES, 5))
