import math

import pytest
import torch

from spd_lightning import ContributionSparsity, DecomposedModel, ImportanceCovariance, RankPenalty, UsageError
from spd_lightning.functional import company, contribution_sparsity, importance_covariance, rank_penalty
from spd_lightning.losses import Noise, Step
from spd_lightning.model import FastForm, FastOptions
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
def test_contributions_equal_the_reference(make_model, make_step, x, ties):
    model = make_model(sites={"linear*": 4}, ties=ties)
    step = make_step(model, x)
    loss = ContributionSparsity()(step)
    assert_same_with_gradients(loss, _restated(model, step, model.site_names), model.components.parameters())


def test_relative_contributions_count_in_lengths_of_their_sum(make_model, make_step, x):
    model = make_model(sites={"linear*": 4})
    step = make_step(model, x)
    expected = sum(_restated(model, step, [name]) / _whole(model, step, name) for name in model.site_names)
    loss = ContributionSparsity(relative=True)(step)
    assert_same_with_gradients(loss, expected, model.components.parameters())


def _whole(model, step, name):
    """Mean length of what the components of a site write together, a constant."""
    a, parts = step.clean.site_inputs[name], model.components[name]
    rows = [(row @ parts.V @ parts.U).norm().item() for row in a.reshape(-1, a.shape[-1])]
    return sum(rows) / len(rows)


def test_where_nothing_is_written_relative_contributions_are_nothing(make_model, make_step):
    model = make_model(sites={"linear1": 4})
    assert ContributionSparsity(relative=True)(make_step(model, torch.zeros(2, 5, dtype=torch.float64))).item() == 0


def _uppers(model, step, names):
    uppers = []
    for name in names:
        gate, a = model.importance_function.functions[name], step.clean.site_inputs[name]
        logits = reference.gate_mlp(
            a.reshape(-1, a.shape[-1]) @ model.components[name].V, list(gate.weights), list(gate.biases)
        )
        uppers.append(reference.elementwise(reference.upper, reference.upper_backward, logits))
    return uppers


@pytest.mark.parametrize("sites", [None, ["*2"]])
def test_covariance_equals_the_reference(make_model, make_step, x, sites):
    model = make_model()
    with torch.no_grad():
        for gate in model.importance_function.functions.values():
            gate.biases[-1].fill_(0.5)  # between 0 and 1, where there is a gradient
    step = make_step(model, x)
    names = model.site_names if sites is None else ["linear2"]
    expected = reference.importance_covariance([g.clamp(max=1) for g in _uppers(model, step, names)])
    trained = [p for p in model.parameters() if p.requires_grad]
    assert_same_with_gradients(ImportanceCovariance(sites=sites)(step), expected, trained)


def test_covariance_by_hand():
    """Means 1/2 and 1/2: on the same examples the two orders of a pair give 1/4 each, on different ones -1/4."""
    together, apart = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert importance_covariance([together]).item() == 0.5
    assert importance_covariance([apart]).item() == -0.5
    assert importance_covariance([together, apart, together]).item() == 0.5
    assert importance_covariance([together], torch.tensor([0.25, 0.75])).item() == 2 * 0.25 * 0.75


def test_an_importance_beyond_one_earns_nothing(make_model, make_step, x):
    model = make_model(sites={"linear*": 4})
    with torch.no_grad():
        for gate in model.importance_function.functions.values():
            gate.biases[-1].fill_(50.0)
    assert ImportanceCovariance()(make_step(model, x)).item() == pytest.approx(0, abs=1e-12)


def test_independent_components_pay_nothing_and_one_that_answers_to_two_features_does():
    features = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    assert importance_covariance([features]).item() == 0
    second = torch.maximum(features[:, 0], features[:, 1])
    shared = torch.stack([features[:, 0], second, features[:, 2]], dim=1)
    assert importance_covariance([shared]) > 0
    always = torch.cat([features, torch.ones(8, 1)], dim=1)
    assert importance_covariance([always]).item() == 0


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


@pytest.mark.parametrize("ties", [None, {"linear2": "linear1"}])
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_rank_penalty_equals_the_reference(make_model, make_step, x, ties, power):
    model = make_model(sites={"linear*": 4}, ties=ties)
    parts = [model.components[name] for name in model.site_names]
    expected = reference.rank_penalty([(part.V, part.U, part.site.weight()) for part in parts], power)
    assert_same_with_gradients(RankPenalty(power=power)(make_step(model, x)), expected, model.components.parameters())


def test_company_equals_the_reference():
    importances = torch.rand(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    importances[:, 1] = importances[:, 0] * (importances[:, 2] > 0.5)
    found = company(importances).among()
    assert (found > 0.1).any()
    wanted = torch.tensor([float(k) for k in reference.company(importances)], dtype=torch.float64)
    torch.testing.assert_close(found, wanted)


def test_company_by_hand():
    """Two that always come together, one that comes with either of two others, and one that never comes."""
    importances = torch.tensor([[1, 1, 1, 0, 0.0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    pair = (1 / 4 - 1 / 4 * 2 / 4) / (math.sqrt(1 / 4 * 2 / 4) - 1 / 4 * 2 / 4)
    assert company(importances).among().tolist() == pytest.approx([1.0, 1.0, pair, pair, 0.0], abs=2e-4)


def test_company_among_some_leaves_the_others_out_in_pairs():
    found = company(torch.eye(4)[:, [0, 0, 1, 2]])

    assert found.among().tolist() == pytest.approx([1.0, 1.0, 0.0, 0.0], abs=1e-3)
    assert found.among(torch.tensor([0, 2])).tolist() == pytest.approx(found.many[[0, 2]].clamp_min(0.0).tolist())


def test_components_that_come_and_go_independently_have_no_company():
    one, other = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    importances = torch.stack([one.flatten() == 0, other.flatten() == 0], -1).double()
    torch.testing.assert_close(
        company(importances).among(), torch.full((2,), 1e-4, dtype=torch.float64), rtol=0, atol=1e-3
    )
    assert company(importances[:, :1]).among().tolist() == [0.0]


@pytest.mark.parametrize("on", [1.0, 0.6])
def test_components_that_are_always_on_are_in_company(on):
    importances = torch.cat([torch.full((32, 3), on), torch.rand(32, 1).round()], -1)
    assert company(importances).among().tolist()[:3] == pytest.approx([1.0] * 3, abs=1e-2)


def test_two_are_in_company_however_much_else_happens():
    others = (torch.rand(4096, 40, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    found = company(torch.cat([others, others[:, :1]], -1)).among()
    assert found[[0, -1]].tolist() == pytest.approx([1.0, 1.0], abs=1e-3)
    assert found[1:-1].max() < 0.1


def test_many_that_come_in_changing_companies_are_in_company():
    """Half of a block of 50 on a tenth of the examples: no two keep to each other, but none is ever alone."""
    generator = torch.Generator().manual_seed(0)
    block = (torch.rand(4096, 1, generator=generator) < 0.1) & (torch.rand(4096, 50, generator=generator) < 0.5)
    assert company(block.float()).among().min() > 0.9


@pytest.mark.parametrize("size", [0.0, 1e-25, 1e-20, 1e-12])
def test_company_is_finite_where_importances_vanish(size):
    faint = torch.rand(64, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, size, size])
    found = company(faint).among()
    assert found.isfinite().all()
    assert found.max() < 1.01


def test_company_in_weighted_rows_is_that_in_repeated_ones():
    importances = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    torch.testing.assert_close(company(importances, weights).among(), company(importances[[0, 0, 1, 2]]).among())


def test_a_rank_penalty_by_hand():
    """Lengths 3 and 4 of a weight of length 5, and a component that is nothing."""
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    read = torch.tensor([[1.0, 0, 0], [0, 2.0, 1.0]], dtype=torch.float64)
    write = torch.tensor([[3.0, 0], [0, 2.0], [0, 0]], dtype=torch.float64)
    assert rank_penalty([(read, write, weight)], 1.0).item() == pytest.approx(3 / 5 + 4 / 5 + 1e-4, abs=1e-6)


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0])
def test_no_faithful_components_are_cheaper_than_the_singular_vectors(power):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((6, 3), (3, 5)))
    weight = left @ right
    write, lengths, read = torch.linalg.svd(weight, full_matrices=False)
    cheapest = rank_penalty([(read.T * lengths, write.T, weight)], power)
    for draw in range(20):
        U = torch.randn(8, 6, generator=torch.Generator().manual_seed(draw), dtype=torch.float64)
        V = (torch.linalg.pinv(U.T) @ weight).T
        torch.testing.assert_close((V @ U).T, weight)
        assert rank_penalty([(V, U, weight)], power) > cheapest


def test_components_that_are_nothing_get_a_finite_slope():
    read, write = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    rank_penalty([(read, write, torch.ones(3, 2))], 0.5).backward()
    assert not read.grad.any()
    assert not write.grad.any()


@pytest.mark.parametrize("power", [0.0, 1.5, -1.0])
def test_a_power_outside_its_range_is_refused(power):
    with pytest.raises(UsageError, match="power must be"):
        RankPenalty(power=power)


@pytest.mark.parametrize(
    "loss",
    [
        ContributionSparsity(sites=["*mlp_in"]),
        ImportanceCovariance(sites=["*mlp_in"]),
        RankPenalty(sites=["*mlp_out"]),
    ],
)
def test_fast_and_plain_agree_on_a_residual_stream(residual_mlp, loss):
    model, x = residual_mlp
    plain = Step.of(model, x, Noise((0,), x.device))
    fast = Step.seen(FastForm(model, x, FastOptions(nodes=0, compiled=False)), Noise((0,), x.device))
    assert_same_with_gradients(loss(fast), loss(plain), model.components.parameters())


@pytest.mark.parametrize("loss", [ContributionSparsity, ImportanceCovariance, RankPenalty])
def test_the_coefficient_moves(loss):
    late = loss(coefficient=0.0, coefficient_points=[(0.5, 2e-5), (1.0, 8e-5)])
    assert [late.coefficient_at(at) for at in (0.0, 0.49, 0.5, 0.75, 1.0)] == pytest.approx([0, 0, 2e-5, 4e-5, 8e-5])
    assert loss(coefficient=3e-4).coefficient_at(0.7) == 3e-4


@pytest.mark.parametrize("loss", [ContributionSparsity, ImportanceCovariance, RankPenalty])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"coefficient": -1.0}, "coefficient must be"),
        ({"sites": "linear1"}, ": sites must be a list"),
        ({"coefficient_points": [(2.0, 1.0)]}, "fractions must rise"),
    ],
)
def test_refuses_by_name(loss, options, said):
    with pytest.raises(UsageError, match=said):
        loss(**options)


def test_refuses_patterns_that_match_nothing(make_model, make_step, x):
    with pytest.raises(UsageError, match=r"ContributionSparsity: sites \['layers\.\*'\] match none of"):
        ContributionSparsity(sites=["layers.*"])(make_step(make_model(), x))
