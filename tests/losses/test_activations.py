"""Reconstruction of what modules put out, worked out module by module."""

import pytest
import torch
from torch import nn

from spd_lightning import ActivationReconstruction, DecomposedModel, ResidualMLP, UsageError
from spd_lightning.functional import keyed_seed, mask_from_source
from spd_lightning.functional.weights import Weights
from spd_lightning.kernels import row_uniforms
from spd_lightning.losses import Noise, Step
from spd_lightning.model import FastForm, FastOptions, KeywordCall, PlainForm, SiteMask
from tests.comparison import assert_same_with_gradients

EXACT = FastOptions(nodes=0, compiled=False)
FORMS = {"plain": PlainForm, "fast": lambda model, batch: FastForm(model, batch, EXACT)}
HIDDEN = ["first", "act", "second"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(self.act(self.first(x)))


@pytest.fixture
def model():
    model = DecomposedModel(Net().double(), {"first": 5, "second": 3})
    with torch.no_grad():
        for parameter in model.components.parameters():
            parameter.normal_()
    return model


def _step(model, x, form="plain", weights=None):
    seen = Step.seen(FORMS[form](model, x), Noise(("activations",), torch.device("cpu")))
    return seen if weights is None else Step(seen.form, seen.noise, weights=weights)


def _masks(step, sources):
    """Masks as the loss is said to draw them: deltas in turn, the components' under the site's name."""
    masks, generator = {}, step.noise.generator("activations")
    seed = generator.initial_seed()
    for name, importance in step.importance.items():
        lower = importance.lower
        if sources == "ci":
            masks[name] = SiteMask(lower)
            continue
        delta = torch.rand(lower.shape[:-1], generator=generator, dtype=lower.dtype)
        source = row_uniforms(lower.shape, keyed_seed(seed, name), lower, compiled=False)
        masks[name] = SiteMask(mask_from_source(lower, source), delta)
    return masks


def _errors(model, x, masks):
    """Squared errors of every module by hand, ``[..., d]``."""
    net, parts = model.target, model.components
    own = [net.first(x)]
    own += [own[0].tanh()]
    own += [net.second(own[1])]
    first = parts["first"](x, masks["first"])
    found = [first, first.tanh(), parts["second"](first.tanh(), masks["second"])]
    return {name: (a - b).square() for name, a, b in zip(HIDDEN, found, own, strict=True)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sources", ["uniform", "ci"])
@pytest.mark.parametrize(
    ("of", "names"),
    [
        (None, ["first", "second"]),
        (["act"], ["act"]),
        (["*s*"], ["first", "second"]),
        (["act", "f*"], ["first", "act"]),
    ],
)
def test_by_hand(model, form, sources, of, names):
    x = torch.randn(6, 3, dtype=torch.float64)
    errors = _errors(model, x, _masks(_step(model, x), sources))
    expected = torch.stack([errors[name].mean() for name in names]).mean()
    found = ActivationReconstruction(of=of, sources=sources)(_step(model, x, form))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert_same_with_gradients(found, expected, trained)


@pytest.mark.parametrize("form", FORMS)
def test_weights_by_hand(model, form):
    x, weights = torch.randn(3, 2, 3, dtype=torch.float64), torch.tensor([[1, 0], [1, 1], [0, 0]])
    step = _step(model, x, form, Weights(weights))
    errors = _errors(model, x, _masks(step, "ci"))
    expected = torch.stack([errors[name].mean(-1)[weights > 0].mean() for name in ("first", "second")]).mean()
    torch.testing.assert_close(ActivationReconstruction(sources="ci")(step), expected, rtol=1e-6, atol=1e-9)


def test_components_that_sum_to_the_weights_leave_no_error_where_all_are_important(model):
    with torch.no_grad():
        for name, parts in model.components.items():
            parts.V.zero_()
            parts.U.zero_()
            width = min(parts.V.shape)
            parts.V[:width, :width] = torch.eye(width)
            parts.U[:width] = parts.site.weight().T[:width]
            model.target.get_submodule(name).weight[:, width:] = 0
            model.importance_function.functions[name].biases[-1].fill_(1e3)
    step = _step(model, torch.randn(6, 3, dtype=torch.float64))
    assert ActivationReconstruction(sources="ci")(step) < 1e-25


class Twice(nn.Module):
    """A layer that is called twice, beside a pooled head, on padded tokens."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x, mask):
        hidden = self.layer(self.layer(x).tanh()) * mask[..., None]
        return self.head(hidden.sum(1))


@pytest.mark.parametrize("form", FORMS)
def test_every_call_counts_and_padding_does_not(form):
    model = DecomposedModel(Twice().double(), {"*": 4}, call=KeywordCall(["x", "mask"], weights="mask"))
    x, mask = torch.randn(2, 3, 3, dtype=torch.float64), torch.tensor([[1.0, 1, 0], [1, 1, 1]], dtype=torch.float64)
    net, parts = model.target, model.components
    step = _step(model, {"x": x, "mask": mask}, form)
    lower = {call: importance.lower for call, importance in step.importance.items()}
    masked = [parts["layer"](x, SiteMask(lower["layer@0"]))]
    masked.append(parts["layer"](masked[0].tanh(), SiteMask(lower["layer@1"])))
    masked.append(parts["head"]((masked[1] * mask[..., None]).sum(1), SiteMask(lower["head"])))
    own = [net.layer(x), net.layer(net.layer(x).tanh()), net(x, mask)]
    errors = [(a - b).square().mean(-1) for a, b in zip(masked, own, strict=True)]
    expected = (errors[0][mask > 0].mean() + errors[1][mask > 0].mean() + errors[2].mean()) / 3
    torch.testing.assert_close(ActivationReconstruction(sources="ci")(step), expected)


def test_parts_of_a_fused_matrix_are_one_module(model):
    model = DecomposedModel(Net().double(), {"first[0:2]": 3, "first[2:4]": 3})
    x = torch.randn(6, 3, dtype=torch.float64)
    step = _step(model, x)
    masks = {name: SiteMask(importance.lower) for name, importance in step.importance.items()}
    found = torch.cat([model.components[name](x, mask) for name, mask in masks.items()], -1)
    expected = (found - model.target.first(x)).square().mean()
    torch.testing.assert_close(ActivationReconstruction(sources="ci")(step), expected)


@pytest.mark.parametrize("of", [None, ["layers.*"], ["layers.0.mlp_in"], ["layers.0.mlp_out"]])
def test_a_residual_stream_that_is_not_written_out(of):
    model = DecomposedModel(ResidualMLP(5, 2, d_mlp=3, d_embed=7), {"layers.*.mlp_*": 4}).double()
    x, loss = torch.rand(6, 5, dtype=torch.float64), ActivationReconstruction(of=of)
    fast, plain = (loss(_step(model, x, form)) for form in ("fast", "plain"))
    assert_same_with_gradients(fast, plain, model.components.parameters())


def test_the_targets_own_activations_are_constants(model):
    x = torch.randn(6, 3, dtype=torch.float64)
    ActivationReconstruction()(_step(model, x)).backward()
    assert all(parameter.grad is None for parameter in model.target.parameters())
    assert all(parameter.grad is not None for parameter in model.components["first"].parameters())


def test_refusals(model):
    step = _step(model, torch.randn(6, 3, dtype=torch.float64))
    with pytest.raises(UsageError, match=r"ActivationReconstruction: of \['conv\*'\] match no module of the target"):
        ActivationReconstruction(of=["conv*"])(step)
    with pytest.raises(UsageError, match="ActivationReconstruction: of must be a list, got 'first'"):
        ActivationReconstruction(of="first")
    with pytest.raises(UsageError, match="sources must be one of 'uniform', 'ci', got 'ones'"):
        ActivationReconstruction(sources="ones")
    with pytest.raises(UsageError, match="coefficient must be a finite number at least 0, got -1"):
        ActivationReconstruction(coefficient=-1)
