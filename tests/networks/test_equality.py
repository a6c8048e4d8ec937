"""On every network of the list: the plain form is what the formulas say, and the fast form is the plain one."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import Tensor

from spd_lightning import (
    ActivationReconstruction,
    ConstrainedImportance,
    ContributionSparsity,
    Faithfulness,
    FrequencyMinimality,
    GateMLP,
    ImportanceCovariance,
    ImportanceMinimality,
    InnerMLP,
    PersistentAdversary,
    PerSite,
    RankPenalty,
    Reconstruction,
    RelativeFaithfulness,
    SharedMLP,
    SiteTransformer,
    SmoothFrequency,
    SmoothImportance,
    VectorMLP,
)
from spd_lightning.losses import Noise, Step
from spd_lightning.model import FastForm, FastOptions, PlainForm, SiteMask
from tests.networks.models import decomposed, randomised
from tests.networks.restated import masked_output
from tests.networks.zoo import ZOO, example

EXACT = FastOptions(nodes=0, compiled=False)
FORMS = {"plain": PlainForm, "fast": lambda model, batch: FastForm(model, batch, EXACT)}
HALF = {"bfloat16"}
ABSOLUTE = [name for name in ZOO if name not in HALF]


def _double(name, **options):
    return randomised(decomposed(name, **options).double())


def _trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def _masks(model, importances, seed, routed):
    """A mask for every site call, the delta component's, and where components run."""
    generator = torch.Generator().manual_seed(seed)
    masks, routing = {}, {}
    for call, importance in importances.items():
        shape = importance.lower.shape
        components = 1.2 * torch.rand(shape, generator=generator, dtype=torch.float64)
        delta = torch.rand(shape[:-1], generator=generator, dtype=torch.float64)
        masks[call] = components.to(importance.lower), delta.to(importance.lower)
        if routed:
            routing[call] = torch.rand(shape[:-1], generator=generator) < 0.6
    return masks, routing


def _finite(output: Tensor) -> Tensor:
    return torch.where(output.isfinite(), output, 0)


def _assert_same(found, wanted, model, tolerance):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
    incoming = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3)).to(wanted)
    factors = [p for parts in model.components.values() for p in parts.parameters()]
    gradients = [
        torch.autograd.grad((_finite(output) * incoming).sum(), factors, allow_unused=True, materialize_grads=True)
        for output in (found, wanted)
    ]
    moved = [gradient.abs().max() > 0 for gradient in gradients[1]]
    assert sum(moved) > 0.6 * len(moved), "sites without gradient compare nothing"
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("routed", [False, True], ids=["everywhere", "routed"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ZOO)
def test_masked_passes_are_what_the_formulas_say(name, form, routed):
    model = randomised(decomposed(name)) if name in HALF else _double(name)
    batch = example(name, double=name not in HALF)
    seen = FORMS[form](model, batch)
    masks, routing = _masks(model, seen.importance, 1, routed)
    found = seen.masked({call: SiteMask(*mask) for call, mask in masks.items()}, routing).output
    arguments = model.call.arguments(batch)
    wanted = masked_output(
        model.target,
        lambda: model.call.chosen(model.target(*arguments.args, **arguments.kwargs)),
        {site: (parts.V, parts.U) for site, parts in model.components.items()},
        {call: (*mask, routing.get(call)) for call, mask in masks.items()},
    )
    _assert_same(found, wanted, model, 3e-2 if name in HALF else 1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ZOO)
def test_one_site_at_a_time(name, form):
    model = randomised(decomposed(name)) if name in HALF else _double(name)
    batch = example(name, double=name not in HALF)
    seen = FORMS[form](model, batch)
    arguments = model.call.arguments(batch)
    for call, mask in _masks(model, seen.importance, 2, False)[0].items():
        found = seen.masked({call: SiteMask(*mask)}).output
        wanted = masked_output(
            model.target,
            lambda: model.call.chosen(model.target(*arguments.args, **arguments.kwargs)),
            {site: (parts.V, parts.U) for site, parts in model.components.items()},
            {call: (*mask, None)},
        )
        tolerance = 3e-2 if name in HALF else 1e-9
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


LOSSES = {
    "faithfulness": Faithfulness(),
    "stochastic": Reconstruction(),
    "layerwise": Reconstruction(routing="layerwise"),
    "subset": Reconstruction(routing="subset", samples=2),
    "independent": Reconstruction(routing="subset", subset_probability=0.5),
    "kl": Reconstruction(distance="kl"),
    "binomial": Reconstruction(sources="binomial"),
    "ci": Reconstruction(sources="ci"),
    "unmasked": Reconstruction(sources="ones"),
    "shared adversary": Reconstruction(sources="adversarial", adversary_steps=2, adversary_step_size=0.3),
    "own adversary": Reconstruction(sources="adversarial", adversary_scope="per_example"),
    "importance": ImportanceMinimality(p=0.7),
    "frequency": FrequencyMinimality(p=0.7),
    "contributions": ContributionSparsity(),
    "relative contributions": ContributionSparsity(relative=True),
    "constrained importance": ConstrainedImportance(
        p=0.7, frequency_exponent=1.0, frequency_exponent_final=-0.75, fall_start=0.0, fall_end=0.0
    ),
    "covariance": ImportanceCovariance(),
    "rank": RankPenalty(),
    "activations": ActivationReconstruction(),
    "relative faithfulness": RelativeFaithfulness(),
    "smooth importance": SmoothImportance(gamma=0.3),
    "smooth frequency": SmoothFrequency(gamma=0.3, half_life=5.0),
    "persistent adversary": PersistentAdversary(distance="mse", warmup=0.0, lr=0.3),
    "merged adversary": PersistentAdversary(share=0.5, warmup=0.0, lr=0.3, scope="component"),
}
FUNCTIONS = {
    "gates": partial(PerSite, function=partial(GateMLP, hidden=[3])),
    "inner MLPs": partial(PerSite, function=partial(InnerMLP, hidden=[3])),
    "shared MLPs": partial(PerSite, function=partial(SharedMLP, hidden=[3])),
    "vector MLPs": partial(PerSite, function=partial(VectorMLP, hidden=[3])),
}


def _terms(seen, name):
    step = Step.seen(seen, Noise(("equality", 4), torch.device("cpu")))
    used = {term: loss for term, loss in LOSSES.items() if not ZOO[name].options.get("kl") or loss_is_kl(loss)}
    return {term: deepcopy(loss)(step.named(term)) for term, loss in used.items()}  # some remember steps


def loss_is_kl(loss):
    """Where logits are -inf no squared error exists."""
    return getattr(loss, "distance", "kl") == "kl" and not isinstance(loss, ActivationReconstruction)


def _assert_same_terms(model, plain, fast, tolerance, of_gradients=None):
    slack = of_gradients or tolerance
    for term, value in plain.items():
        torch.testing.assert_close(fast[term], value, rtol=tolerance, atol=tolerance, msg=lambda m, t=term: f"{t}: {m}")
        assert value.isfinite(), term
        gradients = [
            torch.autograd.grad(one, _trained(model), retain_graph=True, allow_unused=True, materialize_grads=True)
            for one in (fast[term], value)
        ]
        for found, wanted in zip(*gradients, strict=True):
            scale = max(wanted.abs().max().item(), 1e-3)
            torch.testing.assert_close(
                found / scale, wanted / scale, rtol=slack, atol=slack, msg=lambda m, t=term: f"{t}: {m}"
            )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ABSOLUTE)
def test_every_term_is_the_same_in_both_forms(name, function):
    model, batch = decomposed(name, importance=FUNCTIONS[function]).double(), example(name, double=True)
    _randomise_factors(model)
    _assert_same_terms(model, _terms(PlainForm(model, batch), name), _terms(FORMS["fast"](model, batch), name), 1e-9)


@pytest.mark.parametrize("name", ZOO)
def test_every_term_is_the_same_in_single_precision(name):
    model, batch = decomposed(name), example(name)
    _randomise_factors(model)
    terms = [_terms(form(model, batch), name) for form in FORMS.values()]
    adversarial = [term for term in terms[0] if "adversary" in term]
    for one in terms:  # a signed step may go either way where a gradient is nearly 0
        for term in adversarial:
            del one[term]
    if name in HALF:
        _assert_same_terms(model, *terms, 3e-2)
    else:  # gates of GPT-2 and Llama sum gradients that cancel: 7e-5 of the largest
        _assert_same_terms(model, *terms, 1e-5, of_gradients=1e-4)


@pytest.mark.parametrize("name", ["token transformer", "padded dictionary", "shared layer", "pooled head"])
def test_a_transformer_over_sites_is_the_same_in_both_forms(name):
    function = partial(SiteTransformer, width=8, blocks=1, heads=2)
    model, batch = decomposed(name, importance=function).double(), example(name, double=True)
    _randomise_factors(model)
    _assert_same_terms(model, _terms(PlainForm(model, batch), name), _terms(FORMS["fast"](model, batch), name), 1e-9)


@torch.no_grad()
def _randomise_factors(model):
    generator = torch.Generator().manual_seed(23)
    for parameter in model.components.parameters():
        parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter))


@pytest.mark.parametrize("name", ["in-place residual", "token transformer", "pooled head", "cnn", "shared layer"])
def test_means_over_draws_agree_whatever_draws_the_noise(name):
    model, batch = decomposed(name), example(name)
    loss = Reconstruction()

    def mean(make):
        values = []
        for draw in range(300):
            step = Step.seen(make(), Noise(("draws", draw), torch.device("cpu")))
            values.append(loss(step).item())
        values = torch.tensor(values)
        return values.mean().item(), (values.std() / len(values) ** 0.5).item()

    with torch.no_grad():
        plain, deviation = mean(lambda: PlainForm(model, batch))
        fast, other = mean(lambda: FastForm(model, batch, FastOptions(nodes=0, compiled=True)))
    assert abs(plain - fast) < 4 * (deviation**2 + other**2) ** 0.5
    assert deviation < 0.1 * plain  # the mean is known well enough for the comparison to mean something
