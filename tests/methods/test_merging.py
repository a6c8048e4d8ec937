"""Components that are one in two pieces become one; nothing else does."""

import pytest
import torch
from lightning.pytorch import Callback

from spd_lightning import ImportanceMinimality, Merging, Optimization, RelativeFaithfulness, UsageError
from spd_lightning.functional import pairwise_company
from tests import reference
from tests.methods.tiny import Batches, fit, toy, trained_state

MERGING = Merging(start=0.5)
COUNT = 4


@pytest.fixture
def model(make_model):
    """Of one tied pair of sites with orthogonal components, each of them always on."""
    made = make_model(sites={"linear*": COUNT}, ties={"linear2": "linear1"})
    _make_orthogonal(made.components["linear1"])
    _open(made, sign=0.0)
    return made


@torch.no_grad()
def _make_orthogonal(parts):
    parts.V.copy_(torch.eye(5, dtype=parts.V.dtype)[:, :COUNT] * torch.tensor([3.0, 2.0, 1.0, 0.5]))


@torch.no_grad()
def _open(model, sign):
    """Gates that are open everywhere, or where inner activations are above 0."""
    for gate in model.importance_function.functions.values():
        for weight, bias in zip(gate.weights, gate.biases, strict=True):
            weight.copy_(sign * weight.abs())
            bias.fill_(0.0 if sign else 2.0)


@torch.no_grad()
def _copy(parts, taker, gone, share):
    parts.V[:, gone], parts.U[gone] = share * parts.V[:, taker], parts.U[taker]


def _product(parts):
    return (parts.V @ parts.U).detach()


def test_the_longer_of_two_takes_the_shorter(model, make_step, x):
    parts = model.components["linear1"]
    _copy(parts, 0, 2, 0.3)
    before, taker = _product(parts), parts.V[:, 0].detach().clone()

    assert MERGING.merge(make_step(model, x)) == {"linear1": 1}

    torch.testing.assert_close(parts.V[:, 0].detach(), 1.3 * taker)
    torch.testing.assert_close(_product(parts), before, rtol=0, atol=1e-6)
    assert parts.V[:, 2].norm() * parts.U[2].norm() < 1e-5
    assert MERGING.merge(make_step(model, x)) == {}, "what is left of it is not merged again"


def test_a_longer_one_takes_what_the_shorter_adds_along_its_write_vector(model, make_step, x):
    """The nearest matrix to the sum among those with that write vector."""
    parts = model.components["linear1"]
    _copy(parts, 0, 2, 0.3)
    turned = 0.3
    direction = parts.U.data[0] / parts.U.data[0].norm()
    across = torch.stack([-direction[1], direction[0]])
    parts.U.data[2] = 0.8 * (direction + turned * across)
    expected = parts.V[:, 0] + parts.V[:, 2] * 0.8 / parts.U[0].norm()

    assert MERGING.merge(make_step(model, x)) == {"linear1": 1}

    torch.testing.assert_close(parts.V[:, 0], expected)


def test_of_many_that_are_alike_the_longest_takes_all(model, make_step, x):
    parts = model.components["linear1"]
    for gone, share in ((1, 0.5), (2, 0.5), (3, 0.1)):
        _copy(parts, 0, gone, share)
    before = _product(parts)

    assert MERGING.merge(make_step(model, x)) == {"linear1": 3}

    torch.testing.assert_close(parts.V[:, :1] @ parts.U[:1], before, rtol=0, atol=1e-5)


def test_what_is_like_none_but_one_that_goes_itself_stays(model, make_step, x):
    """Of a chain, in which neighbours alone are parallel enough, the middle one goes; the last is then like none."""
    parts, angles = model.components["linear1"], torch.tensor([0.0, 0.4, 0.8, 2.5])
    parts.U.data[:] = torch.stack([angles.cos(), angles.sin()], -1)
    parts.V.data[:] = torch.ones_like(parts.V) * torch.tensor([4.0, 3.0, 2.0, 1.0])

    assert MERGING.merge(make_step(model, x)) == {"linear1": 1}

    lengths = parts.V.norm(dim=0) * parts.U.norm(dim=-1)
    assert (lengths > 0.1).tolist() == [True, False, True, True]
    assert MERGING.merge(make_step(model, x)) == {}


def test_mixed_precision_does_not_round_what_decides(make_model, make_step):
    """A cosine that is above the bound, and below it to eight bits."""
    model = make_model(sites={"linear1": COUNT}, dtype=torch.float32)
    parts, cosine = model.components["linear1"], torch.tensor(0.9002)
    _make_orthogonal(parts)
    _open(model, sign=0.0)
    _copy(parts, 0, 2, 0.3)
    parts.U.data[0], parts.U.data[2] = torch.tensor([1.0, 0.0]), torch.stack([cosine, (1 - cosine**2).sqrt()])
    assert float(cosine.bfloat16()) < MERGING.cosine < float(cosine)
    step = make_step(model, torch.rand(16, 5))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert MERGING.merge(step) == {"linear1": 1}


@pytest.mark.parametrize("case", ["orthogonal", "opposite", "apart"])
def test_what_is_not_one_stays_two(case, model, make_step):
    parts, x = model.components["linear1"], torch.randn(64, 5, dtype=torch.float64)
    if case == "opposite":
        _copy(parts, 0, 2, -0.3)
    if case == "apart":  # the same direction, but one where it reads what is above 0, one where below
        _copy(parts, 0, 2, -0.3)
        parts.U.data[2] *= -1.0
        _open(model, sign=1.0)
    before = trained_state(model)

    assert MERGING.merge(make_step(model, x)) == {}

    for name, tensor in trained_state(model).items():
        assert torch.equal(tensor, before[name]), name


def test_one_matrix_at_two_sites_is_merged_if_both_agree(model, make_step):
    """Gates of the second site tell the two apart, those of the first do not."""
    parts, x = model.components["linear1"], torch.randn(64, 5, dtype=torch.float64)
    _copy(parts, 0, 2, 0.3)
    step = make_step(model, x)
    step.importance["linear2"].upper.data[..., 2] = 0.0
    assert MERGING.merge(step) == {}

    assert MERGING.merge(make_step(model, x)) == {"linear1": 1}


def test_components_that_are_kept_equal_stay_equal(make_model, make_step, x):
    model = make_model(sites={"linear*": COUNT}, ties={"linear2": "linear1"}, tied_updates="twice")
    _make_orthogonal(model.components["linear1"])
    _copy(model.components["linear1"], 0, 2, 0.3)
    model.twins[0].mirror()
    _open(model, sign=0.0)

    assert MERGING.merge(make_step(model, x)) == {"linear1": 1}

    one, other = (model.components[name] for name in ("linear1", "linear2"))
    assert torch.equal(one.V, other.U.T)
    assert torch.equal(one.U, other.V.T)


def test_pairwise_company_equals_the_reference():
    importances = torch.rand(16, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.tensor(reference.pairwise_company(importances), dtype=torch.float64)
    torch.testing.assert_close(pairwise_company(importances), expected)


def test_pairwise_company_in_weighted_rows_is_that_in_repeated_ones():
    importances = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    repeated = pairwise_company(importances[[0, 0, 1, 2]])
    torch.testing.assert_close(pairwise_company(importances, weights), repeated)


def test_what_is_never_important_is_in_no_ones_company():
    importances = torch.rand(16, 3) * torch.tensor([1.0, 0.0, 0.0])
    assert pairwise_company(importances).abs().max() < 1e-3


def test_it_is_due_every_so_many_steps_from_its_start_on():
    merging = Merging(start=0.5, every=3)
    assert [step for step in range(21) if merging.is_due(step, step / 20)] == [12, 15, 18]
    assert not any(Merging().is_due(step, step / 20) for step in range(21))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 1.5}, r"merging.start must lie in \[0, 1\], got 1.5"),
        ({"cosine": -0.1}, r"merging.cosine must lie in \[0, 1\], got -0.1"),
        ({"company": 2.0}, r"merging.company must lie in \[0, 1\], got 2.0"),
        ({"every": 0}, "merging.every must be at least 1, got 0"),
    ],
)
def test_merging_out_of_range_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Merging(**options)


class InTwoPieces(Callback):
    """Puts one component in two pieces, and keeps how many are there after every batch."""

    def __init__(self):
        self.alive = []

    def on_train_start(self, trainer, module):
        parts = module.model.components["linear1"]
        _make_orthogonal(parts)
        _copy(parts, 0, 2, 0.3)
        _open(module.model, sign=0.0)

    def on_train_batch_end(self, trainer, module, *_):
        parts = module.model.components["linear1"]
        self.alive.append(int((parts.V.norm(dim=0) * parts.U.norm(dim=-1) > 1e-3).sum()))


@pytest.mark.parametrize(("accumulated", "expected"), [(1, [4, 4, 3, 3]), (2, [4, 4, 4, 4, 3, 3, 3, 3])])
def test_training_merges_before_the_step_that_is_due(accumulated, expected, tmp_path, capsys):
    still = Optimization(lr=1e-9, importance_lr=1e-9)
    losses = {"faithfulness": RelativeFaithfulness(), "importance": ImportanceMinimality()}
    merging = Merging(start=0.5, every=2)
    module = toy(sites={"linear1": COUNT}, losses=losses, optimization=still, merging=merging)
    pieces, batches = InTwoPieces(), Batches(*[torch.rand(16, 5)] * 8)

    fit(module, batches, tmp_path, callbacks=[pieces], max_steps=4, accumulate_grad_batches=accumulated)

    assert pieces.alive == expected
    assert "step 2: linear1: 1 component merged into parallel ones that are on with them\n" in capsys.readouterr().err
