import copy
from functools import partial

import pytest
import torch
from torch.nn import Linear, ReLU, Sequential

from spd_lightning import DecomposedModel, UsageError
from spd_lightning.losses import Faithfulness, ImportanceMinimality, Noise, Reconstruction, Step
from spd_lightning.model import FastForm, FastOptions, GateMLP, PerSite
from tests.comparison import assert_same_with_gradients
from tests.losses import restated

GATE = partial(PerSite, function=partial(GateMLP, hidden=[3]))
SOURCES = pytest.mark.parametrize("sources", ["uniform", "binomial", "ci", "ones"])
ROUTINGS = pytest.mark.parametrize("routing", ["all", "layerwise", "subset"])


def _trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _assert_equals_the_reference(loss, model, step):
    assert_same_with_gradients(loss(step), restated.reconstruction(loss, step), _trained(model))


def test_the_fixture_reaches_every_branch_of_the_sigmoids(make_model, make_step, x):
    step = make_step(make_model(importance=GATE), x)
    logits = torch.cat([importance.logits.flatten() for importance in step.importance.values()])
    assert (logits < 0).any()
    assert ((logits > 0) & (logits < 1)).any()
    assert (logits > 1).any()


@SOURCES
@ROUTINGS
@pytest.mark.parametrize("use_delta", [True, False])
def test_equals_the_reference(make_model, make_step, x, sources, routing, use_delta):
    model = make_model(importance=GATE, use_delta=use_delta)
    _assert_equals_the_reference(Reconstruction(sources=sources, routing=routing), model, make_step(model, x))


@pytest.mark.parametrize("sources", ["uniform", "binomial"])
def test_equals_the_reference_with_the_papers_leak_and_two_samples(make_model, make_step, x, sources):
    model = make_model(importance=GATE, leak="linear")
    _assert_equals_the_reference(Reconstruction(sources=sources, samples=2), model, make_step(model, x))


@ROUTINGS
def test_equals_the_reference_with_kl(make_model, make_step, x, routing):
    model = make_model(importance=GATE)
    _assert_equals_the_reference(Reconstruction(routing=routing, distance="kl"), model, make_step(model, x))


@pytest.mark.parametrize("distance", ["mse", "kl"])
@pytest.mark.parametrize("fast", [False, True])
def test_relative_is_the_distance_over_that_of_ablating_everything(make_model, make_step, x, distance, fast):
    model = make_model(importance=GATE)
    plain, relative = (Reconstruction(routing="subset", distance=distance, relative=one) for one in (False, True))
    exact = FastOptions(nodes=0, compiled=False)
    plain_step, step = make_step(model, x), make_step(model, x)
    nothing = {name: torch.zeros(len(restated.flat(x)), parts.n_components) for name, parts in model.components.items()}
    cost = restated.distance_of(plain, step, nothing, None, None).detach()
    if fast:
        step = Step.seen(FastForm(model, x, exact), step.noise)
        assert_same_with_gradients(relative(step), relative(plain_step), _trained(model))
    else:
        assert_same_with_gradients(relative(step), restated.reconstruction(plain, step) / cost, _trained(model))


def test_a_batch_on_which_ablating_everything_costs_nothing_does_not_count(make_step):
    """With both inputs 1 the unit is off, and on without its second component alone."""
    model = DecomposedModel(Sequential(Linear(2, 1, bias=False), ReLU()), {"0": 2}).double()
    with torch.no_grad():
        model.target[0].weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.components["0"].V.copy_(torch.eye(2))
        model.components["0"].U.copy_(torch.tensor([[1.0], [-2.0]]))
        for parameter in model.importance_function.parameters():
            parameter.zero_()  # nothing is important
    step = make_step(model, torch.ones(64, 2, dtype=torch.float64))

    assert Reconstruction()(step) > 0
    relative = Reconstruction(relative=True)(step)
    assert relative == 0
    gradients = torch.autograd.grad(relative, list(model.components.parameters()))
    assert all((gradient == 0).all() for gradient in gradients)


def test_equals_the_reference_with_three_sites_and_a_fixed_subset_probability(make_model, make_step, x):
    model = make_model(importance=GATE, n_identity_layers=1, sites={"*linear*": 3, "hidden_layers.0": 2})
    loss = Reconstruction(routing="subset", subset_probability=0.4)
    _assert_equals_the_reference(loss, model, make_step(model, x))


@pytest.mark.parametrize("updates", ["once", "twice"])
def test_equals_the_reference_with_ties(make_model, make_step, x, updates):
    model = make_model(importance=GATE, sites={"linear*": 3}, ties={"linear2": "linear1"}, tied_updates=updates)
    _assert_equals_the_reference(Reconstruction(), model, make_step(model, x))


@pytest.mark.parametrize("sources", ["uniform", "binomial", "ci", "ones", "adversarial"])
def test_one_site_makes_layerwise_and_joint_the_same(make_model, make_step, x, sources):
    model = make_model(sites={"linear1": 4})
    step = make_step(model, x)
    joint, layerwise = (Reconstruction(sources=sources, routing=routing)(step) for routing in ("all", "layerwise"))
    torch.testing.assert_close(joint, layerwise)
    assert joint > 0


@pytest.mark.parametrize(
    "loss",
    [
        Reconstruction(sources="ones"),
        Reconstruction(sources="ci", routing="subset"),
        Reconstruction(sources="ci", routing="layerwise", distance="kl"),
        Faithfulness(),
        ImportanceMinimality(p=2.0),
    ],
)
def test_permuting_components_changes_no_loss(make_model, make_step, x, loss):
    model = make_model()
    permuted = copy.deepcopy(model)
    with torch.no_grad():
        for name, parts in permuted.components.items():
            order = torch.randperm(parts.n_components)
            parts.V.copy_(parts.V[:, order])
            parts.U.copy_(parts.U[order])
            for parameter in permuted.importance_function.functions[name].parameters():
                parameter.copy_(parameter[order])
    torch.testing.assert_close(loss(make_step(permuted, x)), loss(make_step(model, x)), rtol=1e-9, atol=1e-9)


def test_a_perfect_decomposition_has_no_unmasked_loss(make_model, make_step, x):
    model = make_model(sites={"linear1": 5, "linear2": 5})
    with torch.no_grad():
        for parts in model.components.values():
            parts.V.copy_(torch.eye(*parts.V.shape, dtype=torch.float64))
            parts.U.zero_()[: parts.V.shape[0]] = parts.site.weight().T
    assert Reconstruction(sources="ones")(make_step(model, x)) < 1e-25
    assert Reconstruction(sources="uniform")(make_step(model, x)) > 1e-6


@ROUTINGS
def test_fully_important_components_leave_delta_alone_at_play(make_model, make_step, x, routing):
    """With every importance at 1 only the delta component is masked at random."""
    model = make_model()
    with torch.no_grad():
        for gate in model.importance_function.functions.values():
            gate.biases[-1].fill_(1e3)
    loss = Reconstruction(routing=routing)
    model.use_delta = False
    without = loss(make_step(model, x))
    torch.testing.assert_close(without, Reconstruction(sources="ones", routing=routing)(make_step(model, x)))
    model.use_delta = True
    assert not torch.allclose(loss(make_step(model, x)), without)


def test_delta_draws_gradient_into_the_components(make_model, make_step, x):
    """All importances 0 and all sources 0 leave delta alone, and it alone must train V and U."""
    model = make_model(sites={"linear1": 4})
    step = make_step(model, x)
    loss = Reconstruction(sources="adversarial", adversary_steps=1, adversary_step_size=1e-9)
    gradients = torch.autograd.grad(loss(step), list(model.components.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_same_key_draws_the_same_masks(make_model, make_step, x):
    model, loss = make_model(), Reconstruction()
    value = loss(make_step(model, x, ("seed", 0)))
    assert loss(make_step(model, x, ("seed", 0))) == value
    assert loss(make_step(model, x, ("seed", 1))) != value
    assert loss(make_step(model, x, ("seed", 0)).named("layerwise")) != value


def test_two_samples_are_two_draws(make_model, make_step, x):
    step = make_step(make_model(), x)
    assert Reconstruction(samples=2)(step) != Reconstruction(samples=1)(step)


def test_purposes_and_keys_have_streams_of_their_own():
    noise = Noise((0, 5), torch.device("cpu"))
    streams = [noise, noise.named("a"), noise.named("b"), noise.named("a").named("b"), Noise((0, 6), noise.device)]
    draws = [tuple(torch.rand(4, generator=stream.generator(0)).tolist()) for stream in streams]
    draws.append(tuple(torch.rand(4, generator=noise.generator(1)).tolist()))
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coefficient": -0.5}, "coefficient must be a finite number at least 0, got -0.5"),
        ({"coefficient": float("nan")}, "coefficient must be a finite number at least 0, got nan"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"adversary_steps": 0}, "adversary_steps must be at least 1, got 0"),
        ({"adversary_step_size": 0.0}, "adversary_step_size must be a finite number above 0, got 0.0"),
        ({"subset_probability": 0.0}, "subset_probability must lie in (0, 1], got 0.0"),
        ({"subset_probability": float("nan")}, "subset_probability must lie in (0, 1], got nan"),
        ({"sources": "random"}, "sources must be one of 'uniform', 'binomial', 'ci', 'ones', 'adversarial', got "),
        ({"routing": "per_layer"}, "routing must be one of 'all', 'layerwise', 'subset', got 'per_layer'"),
        ({"distance": "l1"}, "distance must be one of 'mse', 'kl', got 'l1'"),
        ({"relative": "yes"}, "relative must be true or false, got 'yes'"),
        ({"adversary_scope": "batch"}, "adversary_scope must be one of 'shared', 'per_example', got 'batch'"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(UsageError) as error:
        Reconstruction(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
