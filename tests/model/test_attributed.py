import pytest
import torch
from torch import nn

from spd_lightning import AttributedModel, SiteMask, ToyModelOfSuperposition, UsageError
from spd_lightning.functional import keyed_generator
from spd_lightning.model import AttributedForm, Components
from spd_lightning.model.sites import LinearSite
from tests import reference
from tests.comparison import assert_same_with_gradients
from tests.model.attributed import residual, residual_network, sites_of, toy, toy_network

NETWORKS = {
    "toy": (toy, toy_network, 5),
    "tied": (lambda **options: toy(ties={"linear2": "linear1"}, **options), toy_network, 5),
    "one layer": (lambda **options: residual(1, **options), residual_network, 4),
    "two layers": (residual, residual_network, 4),
}
EVERY = pytest.mark.parametrize("name", NETWORKS)


def _inputs(width, *leading):
    return torch.randn(*leading, width, dtype=torch.float64)


@EVERY
def test_attributions_equal_a_loop_of_gradients_over_outputs(name):
    make, network, width = NETWORKS[name]
    model = make()
    x = _inputs(width, 3)
    expected = reference.attributions(network(model), sites_of(model), x)
    assert expected.min() > 0
    seen = model.attributed(x)
    torch.testing.assert_close(seen.scores, expected, rtol=1e-9, atol=1e-12)
    assert not seen.scores.requires_grad
    clean = model.clean(x)
    torch.testing.assert_close(seen.clean.output, clean.output)
    for site, site_input in clean.site_inputs.items():
        torch.testing.assert_close(seen.clean.site_inputs[site], site_input)


@EVERY
def test_attributions_of_the_components_are_those_of_a_network_made_of_them(name):
    make, network, width = NETWORKS[name]
    model = make(attribution_source="components")
    x = _inputs(width, 3)
    summed = [(sum(reference.full_component(V, U, c) for c in range(V.shape[1])), V, U) for _, V, U in sites_of(model)]
    expected = reference.attributions(network(model), summed, x)
    torch.testing.assert_close(model.attributed(x).scores, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(model.attributed(x).clean.output, model.target(x))


def test_positions_are_examples_where_they_do_not_meet():
    model, x = residual(), _inputs(4, 2, 3)
    scores = model.attributed(x).scores
    assert scores.shape == (2, 3, 5)
    torch.testing.assert_close(scores, model.attributed(x.reshape(6, 4)).scores.reshape(2, 3, 5))


@EVERY
def test_the_sparse_pass_is_the_network_on_the_chosen_components(name):
    make, network, width = NETWORKS[name]
    model = make()
    x = _inputs(width, 3)
    mask = (torch.rand(3, model.n_components) < 0.5).double()
    form = AttributedForm(model, x)
    form.choose(mask)
    rows = []
    for m, example in zip(mask, x, strict=True):
        weights = [sum(m[c] * reference.full_component(V, U, c) for c in range(len(m))) for _, V, U in sites_of(model)]
        rows.append(network(model)(weights, example))
    assert_same_with_gradients(form.sparse.output, torch.stack(rows), model.components.parameters())
    assert list(form.sparse.kept) == model.site_names


@EVERY
def test_all_on_with_components_that_sum_to_the_weights_is_the_target(name):
    make, _, width = NETWORKS[name]
    model = make()
    with torch.no_grad():
        for site, parts in model.components.items():
            if site in model.ties:
                continue
            parts.V[:, 1:], parts.U[1:] = 0, 0  # the first component is the whole matrix, in two factors
            left, scale, right = torch.linalg.svd(parts.site.weight(), full_matrices=False)
            parts.V[:, 0], parts.U[0] = right.T * scale, left.T
    x = _inputs(width, 4)
    torch.testing.assert_close(model(x), model.target(x))
    assert max(parts.delta().abs().max() for parts in model.components.values()) < 1e-12


@pytest.mark.parametrize("rank", [1, 3])
def test_components_equal_the_reference(rank):
    parts = Components(LinearSite(nn.Linear(6, 4, dtype=torch.float64)), 3, rank)
    parts.reset_glorot(1.0, keyed_generator("parts"))
    site = (parts.site.weight(), parts.V, parts.U)
    a, mask = torch.randn(2, 2, 6, dtype=torch.float64), torch.rand(2, 2, 3, dtype=torch.float64)
    expected = [
        reference.full_output(site, m, row) + parts.site.bias()
        for m, row in zip(mask.flatten(0, 1), a.flatten(0, 1), strict=True)
    ]
    assert_same_with_gradients(parts(a, SiteMask(mask)).flatten(0, 1), torch.stack(expected), [parts.V, parts.U])
    total = sum(reference.full_component(parts.V, parts.U, c) for c in range(3))
    torch.testing.assert_close(parts.weight(), total)
    assert parts.inner(a).shape == (2, 2, 3, rank)
    assert repr(parts) == f"Components(C=3, m={rank}, d_in=6, d_out=4)"


def test_the_start_is_glorots():
    parts = Components(LinearSite(nn.Linear(300, 200)), 20, 100)
    parts.reset_glorot(2.0, keyed_generator("parts"))
    assert parts.V.std().item() == pytest.approx(2 * (2 / 400) ** 0.5, rel=0.01)
    assert parts.U.std().item() == pytest.approx(2 * (2 / 300) ** 0.5, rel=0.01)


def test_tied_sites_have_each_others_matrices_transposed():
    model = toy(ties={"linear2": "linear1"})
    one, other = model.components["linear1"], model.components["linear2"]
    for c in range(4):
        mine, theirs = (reference.full_component(parts.V, parts.U, c) for parts in (one, other))
        torch.testing.assert_close(mine, theirs.T)
    assert [name for name, _ in model.components.named_parameters()] == ["linear1.V", "linear1.U"]


def test_importance_is_a_share_of_the_examples_largest_attribution_for_every_site():
    model, x = toy(), _inputs(5, 3)
    scores = model.attributed(x).scores
    importances = model.importance_of(x)
    assert list(importances) == ["linear1", "linear2"]
    for importance in importances.values():
        torch.testing.assert_close(importance.lower, scores / scores.amax(1, keepdim=True))
    torch.testing.assert_close(importances["linear1"].lower[1], model.importance_of(x[1:2])["linear1"].lower[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 4}, "rank must be at most 3, one above that of the weight of 'linear1'"),
        ({"rank": 0}, "rank must be"),
        ({"n_components": 0}, "n_components must be"),
        ({"sites": "linear1"}, "sites must be a list"),
        ({"sites": ["linear3"]}, "pattern 'linear3' matches no module"),
        ({"sites": ["linear1", "linear*"]}, "matched by two patterns"),
        ({"attribution_source": "labels"}, "attribution_source must be"),
        ({"init_scale": 0.0}, "init_scale must be a finite number above 0"),
        ({"ties": {"linear2": "linear3"}}, "ties:"),
    ],
)
def test_refuses_by_name(options, said):
    with pytest.raises(UsageError, match=said):
        AttributedModel(ToyModelOfSuperposition(5, 2), **({"sites": ["linear*"], "n_components": 4} | options))


class _Opaque(nn.Module):
    def __init__(self, hide):
        super().__init__()
        self.first, self.second, self.hide = nn.Linear(3, 3), nn.Linear(3, 3), hide

    def forward(self, x):
        return self.second(self.hide(self.first(x)))


@pytest.mark.parametrize(
    ("sites", "hide", "said"),
    [
        (["first"], torch.Tensor.detach, "no gradient with respect to any site"),
        (["first", "second"], torch.Tensor.detach, "no gradient with respect to 'first'; leave it out"),
    ],
)
def test_a_target_without_gradients_is_refused(sites, hide, said):
    model = AttributedModel(_Opaque(hide), sites, 2)
    with pytest.raises(UsageError, match=said):
        model.attributed(torch.rand(4, 3))


def test_a_target_that_works_in_place_can_be_attributed():
    model, twin = AttributedModel(_Opaque(torch.relu_), ["*"], 2), AttributedModel(_Opaque(torch.relu), ["*"], 2)
    twin.load_state_dict(model.state_dict())
    x = torch.randn(4, 3)
    torch.testing.assert_close(model.attributed(x).scores, twin.attributed(x).scores)
