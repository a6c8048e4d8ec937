"""Components that others can do without go into them; nothing else does."""

import pytest
import torch
from lightning.pytorch import Callback

from spd_lightning import (
    DecomposedModel,
    ImportanceMinimality,
    Merging,
    Optimization,
    RelativeFaithfulness,
    ToyModelOfSuperposition,
    UsageError,
)
from spd_lightning.functional import absences
from spd_lightning.methods.combinations import take_up
from spd_lightning.methods.optimization import forget_momentum
from tests import reference
from tests.methods.tiny import Batches, fit, toy, trained_state

MERGING = Merging(start=0.5)
COUNT = 4


@pytest.fixture
def model(make_model):
    """Of one tied pair of sites with orthogonal components, each of them always on."""
    made = make_model(sites={"linear*": COUNT}, ties={"linear2": "linear1"})
    _make_orthogonal(made.components["linear1"])
    _open(made)
    return made


@pytest.fixture
def make_step(make_step):
    """Steps on which components are important independently, each at half of the places, or as gates say."""

    def make(model, x, gated=False):
        step, generator = make_step(model, x), torch.Generator().manual_seed(0)
        if not gated:
            for importance in step.importance.values():
                importance.upper.data.copy_(torch.rand(importance.upper.shape, generator=generator) < 0.5)
        return step

    return make


def _merged(merging, step, unused=()):
    """How many went, by site, of which some were not used for long."""
    model = step.model
    long = {
        sites[0]: torch.tensor([c in unused for c in range(model.components[sites[0]].n_components)])
        for sites in model.alike
    }
    return {site: len(gone) for site, gone in merging.merge(step, long).items()}


@torch.no_grad()
def _make_orthogonal(parts):
    parts.V.copy_(torch.eye(5, dtype=parts.V.dtype)[:, :COUNT] * torch.tensor([3.0, 2.0, 1.0, 0.5]))


@torch.no_grad()
def _open(model):
    """Gates that are open everywhere."""
    for gate in model.importance_function.functions.values():
        for weight, bias in zip(gate.weights, gate.biases, strict=True):
            weight.zero_()
            bias.fill_(2.0)


@torch.no_grad()
def _copy(parts, taker, gone, share):
    parts.V[:, gone], parts.U[gone] = share * parts.V[:, taker], parts.U[taker]


@torch.no_grad()
def _put_into_two_dimensions(parts):
    angles = torch.tensor([0.0, 0.6, 0.9, 1.5])
    parts.V[2:] = 0.0
    parts.V[:2] = torch.stack([angles.cos(), angles.sin()])
    parts.U.copy_(parts.V[:2].T)


def _lengths(parts):
    return (parts.V.norm(dim=0) * parts.U.norm(dim=-1)).detach()


def _product(parts):
    return (parts.V @ parts.U).detach()


def test_the_longer_of_two_takes_the_shorter(model, make_step, x):
    parts = model.components["linear1"]
    _copy(parts, 0, 2, 0.3)
    before, read = _product(parts), parts.V[:, 0].detach().clone()

    assert _merged(MERGING, make_step(model, x)) == {"linear1": 1}

    assert torch.equal(parts.V[:, 0].detach(), read), "what gates read stays"
    torch.testing.assert_close(_product(parts), before, rtol=0, atol=1e-4)
    assert _lengths(parts)[2] < 1e-5
    assert _merged(MERGING, make_step(model, x)) == {}, "what is left of it is not merged again"


def test_two_that_are_nearly_parallel_become_one(model, make_step, x):
    """The sum changes by no more than what was across."""
    parts = model.components["linear1"]
    _copy(parts, 0, 2, 0.3)
    parts.V.data[2, 2] = 0.05
    before, lengths = _product(parts), _lengths(parts)

    assert _merged(MERGING, make_step(model, x)) == {"linear1": 1}

    assert (_product(parts) - before).norm() < 0.1 * lengths[2]
    assert (_lengths(parts) > 0.1).tolist() == [True, True, False, True]


@pytest.mark.parametrize(("remainder", "expected"), [(0.3, {"linear1": 1}), (0.2, {})])
def test_what_others_need_not_make_of_a_vector_is_given(model, make_step, remainder, expected):
    """A short piece, a quarter of whose read vector is across; inputs have no direction of their own."""
    parts, x = model.components["linear1"], torch.randn(256, 5, dtype=torch.float64)
    _copy(parts, 0, 2, 0.1)
    parts.V.data[2, 2] = 0.25 * parts.V.data[:, 2].norm()

    assert _merged(Merging(start=0.5, remainder=remainder), make_step(model, x)) == expected


@torch.no_grad()
def _mix_the_third(parts, across):
    """Of two others, but for one direction that only it reads."""
    parts.V.zero_().fill_diagonal_(1.0)
    parts.V[:3, 2] = torch.tensor([0.6, 0.7, across])
    parts.V[:, 3:] = 0.0
    parts.U.zero_().fill_diagonal_(1.0)
    parts.U[2, :2] = torch.tensor([0.8, 0.6])


def test_what_one_side_does_not_make_goes_by_the_other(model, make_step):
    """Two dimensions are written, so that others make every write vector: the sum loses nothing."""
    parts, x = model.components["linear1"], torch.randn(256, 5, dtype=torch.float64)
    _mix_the_third(parts, 0.2)
    before = _product(parts)

    assert _merged(MERGING, make_step(model, x)) == {"linear1": 1}

    torch.testing.assert_close(_product(parts), before, rtol=0, atol=1e-3)
    assert _lengths(parts)[2] < 1e-5


@pytest.mark.parametrize(("loss", "expected"), [(0.02, {}), (0.06, {"0": 1})])
def test_a_sum_that_would_lose_too_much_keeps_its_components(make_step, loss, expected):
    """Of either vector a quarter is across: a sixteenth of a component, 0.04 of what they sum to."""
    model = DecomposedModel(torch.nn.Sequential(torch.nn.Linear(5, 4, bias=False)), {"0": COUNT})
    with torch.no_grad():
        model.target[0].weight.copy_(torch.eye(4, 5))
    parts, x = model.components["0"], torch.randn(512, 5)
    _mix_the_third(parts, 0.25)
    parts.U.data[2:, 2:] = torch.tensor([[0.25, 0.0], [0.0, 0.0]])
    before = _product(parts)

    assert _merged(Merging(start=0.5, loss=loss), make_step(model, x)) == expected
    assert (_product(parts) - before).norm() < loss * before.norm()


@pytest.mark.parametrize(("reads", "expected"), [(0.0, {"0": 1}), (1.0, {})], ids=["unread", "read"])
def test_directions_that_nothing_reads_do_not_count(make_step, reads, expected):
    """What tells the write vectors of the first and the last apart reaches an output only where it is read."""
    layers = torch.nn.Linear(5, 4, bias=False), torch.nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layers[1].weight.copy_(torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, reads]]))
    model = DecomposedModel(torch.nn.Sequential(*layers), {"0": 3})
    parts = model.components["0"]
    with torch.no_grad():
        parts.V.copy_(torch.eye(5)[:, [0, 1, 0]])
        parts.U.copy_(torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.5, 0.0, 0.0, 1.0]]))

    assert _merged(MERGING, make_step(model, torch.randn(256, 5))) == expected


@pytest.fixture
def unused(make_step):
    """Looks at a site that maps 3 to 3, whose last of three components is never important: how many go into others."""
    layers = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
    torch.nn.init.eye_(layers[1].weight)
    model = DecomposedModel(torch.nn.Sequential(*layers), {"0": 3})

    def look(reads, writes, x, unused=(2,)):
        parts = model.components["0"]
        with torch.no_grad():
            parts.V.copy_(torch.eye(3))
            parts.U.copy_(2 * torch.eye(3))
            parts.V[:, 2], parts.U[2] = torch.tensor(reads), torch.tensor(writes)
        before = _product(parts)
        step = make_step(model, x)
        step.importance["0"].upper.data[..., 2] = 0.0
        merged = _merged(MERGING, step, unused)
        torch.testing.assert_close(_product(parts), before, rtol=0, atol=1e-3)
        return merged, parts

    return look


def _together(rows):
    """Inputs of which the last is always the sum of the others."""
    x = torch.randn(rows, 3)
    return torch.cat([x[:, :2], x[:, :2].sum(1, keepdim=True)], 1)


def test_what_is_not_used_goes_into_what_is(unused):
    merged, parts = unused([0.5, 0.5, 0.0], [0.0, 0.7, 0.0], torch.randn(256, 3))
    assert merged == {"0": 1}
    assert _lengths(parts)[2] < 1e-5


def test_what_inputs_do_not_tell_apart_goes_where_it_is_written(unused):
    """It reads a direction in which inputs have no part: nothing but the sum of the matrix tells that it is there."""
    merged, parts = unused([0.5, 0.5, -0.5], [0.0, 0.7, 0.0], _together(256))
    assert merged == {"0": 1}
    torch.testing.assert_close(parts.V[:, 1].detach(), torch.tensor([0.175, 1.175, -0.175]), rtol=0, atol=1e-3)
    torch.testing.assert_close(parts.V[:, 0].detach(), torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("reads", "writes"),
    [([0.5, 0.5, -0.5], [0.0, 0.7, 0.0]), ([0.5, 0.5, 0.0], [0.0, 0.2, 0.7]), ([0.05, 0.05, 0.0], [0.0, 0.7, 0.0])],
    ids=["it reads what inputs tell apart", "it writes what nothing else does", "it is short"],
)
def test_what_is_not_used_stays_otherwise(unused, reads, writes):
    merged, parts = unused(reads, writes, torch.randn(256, 3))
    assert merged == {}
    assert _lengths(parts)[2] > 1e-2


def test_what_is_not_used_goes_as_what_it_sums_to(make_step):
    """Two that read where inputs have no part, each writing what no other does: only their sum is made by others."""
    layers = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
    torch.nn.init.eye_(layers[1].weight)
    model = DecomposedModel(torch.nn.Sequential(*layers), {"0": 4})
    parts, x = model.components["0"], _together(256)
    with torch.no_grad():
        parts.V.copy_(torch.tensor([[1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.5, 0.5], [0.0, 0.0, -0.5, -0.5]]))
        parts.U.copy_(torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.7, 0.7], [0.0, 0.0, -0.7]]))
    before, step = _product(parts), make_step(model, x)
    step.importance["0"].upper.data[..., 2:] = 0.0

    assert _merged(MERGING, step, unused=(2, 3)) == {"0": 1}

    torch.testing.assert_close(_product(parts), before, rtol=0, atol=1e-3)
    assert (_lengths(parts) > 1e-5).tolist() == [True, True, False, False]


def test_what_one_batch_does_not_show_stays(unused):
    """The same was important not long ago."""
    merged, parts = unused([0.5, 0.5, 0.0], [0.0, 0.7, 0.0], torch.randn(256, 3), unused=())
    assert merged == {}
    assert _lengths(parts)[2] > 0.1


def test_a_rare_feature_in_superposition_stays(make_step):
    """Others can make what it writes, and a batch that lacks it does not show what it reads."""
    layer = torch.nn.Linear(20, 5, bias=False)
    model = DecomposedModel(torch.nn.Sequential(layer), {"0": 20})
    parts, x = model.components["0"], torch.rand(2048, 20) * (torch.rand(2048, 20) < 0.05)
    x[:, 19] = 0.0
    with torch.no_grad():
        parts.V.copy_(torch.eye(20))
        parts.U.copy_(layer.weight.T)
    before, step = _product(parts), make_step(model, x, gated=True)
    step.importance["0"].upper.data.copy_(x > 0)

    assert _merged(MERGING, step) == {}

    assert torch.equal(_product(parts), before)
    assert _merged(MERGING, step, unused=(19,)) == {"0": 1}, "else nothing would have tried"


def test_company_on_one_row_is_chance(make_step):
    """Two rare features in superposition that a batch shows once, together."""
    layer = torch.nn.Linear(20, 5, bias=False)
    model = DecomposedModel(torch.nn.Sequential(layer), {"0": 20})
    parts, x = model.components["0"], torch.rand(2048, 20) * (torch.rand(2048, 20) < 0.05)
    x[:, 18:] = 0.0
    x[0, 18:] = 1.0
    with torch.no_grad():
        parts.V.copy_(torch.eye(20))
        parts.U.copy_(layer.weight.T)
    step = make_step(model, x, gated=True)
    step.importance["0"].upper.data.copy_(x > 0)

    assert _merged(MERGING, step) == {}


def test_what_went_is_no_company(make_step):
    """Of a feature in superposition that came in two pieces, what takes the shorter one is on its own from then on."""
    layer = torch.nn.Linear(20, 5, bias=False)
    model = DecomposedModel(torch.nn.Sequential(layer), {"0": 21})
    parts, x = model.components["0"], torch.rand(2048, 20) * (torch.rand(2048, 20) < 0.05)
    features = [*range(20), 0]
    with torch.no_grad():
        parts.V.copy_(torch.eye(20)[:, features])
        parts.V[:, 20] *= 0.05
        parts.U.copy_(layer.weight.T[features])
    before, step = _product(parts), make_step(model, x, gated=True)
    step.importance["0"].upper.data.copy_(x[:, features] > 0)

    assert _merged(MERGING, step) == {"0": 1}
    assert _merged(MERGING, step) == {}, "its gate is still open"

    torch.testing.assert_close(_product(parts), before, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("rows", "expected"), [(4, {}), (64, {"0": 1})])
def test_one_side_is_enough_only_where_it_would_show(make_step, rows, expected):
    """Two that write the same are important together on some rows; the first is everywhere else, too."""
    model = DecomposedModel(torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False)), {"0": 2})
    parts, x = model.components["0"], torch.randn(256, 3)
    with torch.no_grad():
        parts.V.copy_(torch.eye(3)[:, :2])
        parts.U.copy_(torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    step = make_step(model, x, gated=True)
    step.importance["0"].upper.data.fill_(1.0)
    step.importance["0"].upper.data[rows:, 1] = 0.0

    assert _merged(MERGING, step) == expected


@pytest.mark.parametrize(("rows", "expected"), [(256, {"0": 1}), (2048, {})])
def test_one_side_is_enough_for_what_is_never_on_its_own(make_step, rows, expected):
    """Twelve read what has eleven dimensions and write apart; each is on at random where the group is, or anywhere."""
    generator = torch.Generator().manual_seed(0)
    model = DecomposedModel(torch.nn.Sequential(torch.nn.Linear(11, 16, bias=False)), {"0": 12})
    parts, x = model.components["0"], torch.randn(2048, 11, generator=generator)
    with torch.no_grad():
        parts.V.copy_(torch.cat([torch.eye(11), torch.full((11, 1), 11**-0.5)], dim=1))
        parts.U.copy_(torch.eye(16)[:12])
    step, before = make_step(model, x, gated=True), _product(parts)
    upper = step.importance["0"].upper.data
    upper.zero_()
    upper[:rows] = (torch.rand(rows, 12, generator=generator) < 0.6).to(upper.dtype)

    assert _merged(MERGING, step) == expected
    torch.testing.assert_close(_product(parts), before, rtol=0, atol=2e-3)


def test_a_site_behind_units_that_are_off_is_merged_by_its_vectors(make_step):
    """Nothing reads what it writes on this batch; two equal components are one all the same."""
    layers = torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)
    torch.nn.init.constant_(layers[0].bias, -100.0)
    model = DecomposedModel(torch.nn.Sequential(*layers), {"0": 2, "2": 2})
    for parts in model.components.values():
        parts.V.data[:, 1], parts.U.data[1] = parts.V.data[:, 0], 0.5 * parts.U.data[0]

    assert _merged(MERGING, make_step(model, torch.rand(64, 5))) == {"0": 1, "2": 1}


def test_where_nothing_is_important_nothing_is_merged(model, make_step, x):
    step = make_step(model, x)
    for importance in step.importance.values():
        importance.upper.data.zero_()
    assert _merged(MERGING, step) == {}


def test_of_two_that_write_the_same_and_act_together_one_is_enough(model, make_step):
    """The sum stays, whatever they read; where each acts by itself, both stay."""
    x = torch.randn(256, 5, dtype=torch.float64)
    model.components["linear1"].U.data.copy_(torch.eye(2)[[0, 0, 1, 1]] * torch.tensor([1.0, 0.5, 1.0, 0.5])[:, None])
    assert _merged(MERGING, make_step(model, x)) == {}
    before = _product(model.components["linear1"])

    assert _merged(MERGING, make_step(model, x, gated=True)) == {"linear1": 2}

    torch.testing.assert_close(_product(model.components["linear1"]), before, rtol=0, atol=2e-3)


def test_a_block_holds_as_many_as_it_has_dimensions(model, make_step, x):
    """What took from one that went waits for the next look."""
    parts = model.components["linear1"]
    _put_into_two_dimensions(parts)
    before = _product(parts)

    assert [_merged(MERGING, make_step(model, x, gated=True)) for _ in range(3)] == [{"linear1": 1}, {"linear1": 1}, {}]

    assert int((_lengths(parts) > 1e-3).sum()) == 2
    torch.testing.assert_close(_product(parts), before, rtol=0, atol=2e-4)


def test_the_one_goes_that_the_fewest_others_have_to_stand_in_for(model, make_step):
    """Two pieces of one component: it is on where the second is, and off where the third is."""
    parts, x = model.components["linear1"], torch.rand(16, 5, dtype=torch.float64)
    _copy(parts, 0, 2, 0.3)
    _copy(parts, 0, 3, 0.3)
    step = make_step(model, x)
    upper = step.importance["linear1"].upper.data
    upper[:8, 3] = 0.0
    upper[8:, :3] = 0.0

    assert _merged(Merging(start=0.5, spread=0.2), step) == {"linear1": 1}

    assert (_lengths(parts) > 1e-3).tolist() == [True, True, False, True]


def test_of_many_that_are_alike_the_longest_takes_all(model, make_step, x):
    parts = model.components["linear1"]
    for gone, share in ((1, 0.5), (2, 0.3), (3, 0.1)):
        _copy(parts, 0, gone, share)
    before = _product(parts)

    assert [_merged(MERGING, make_step(model, x)) for _ in range(5)][-1] == {}

    torch.testing.assert_close(parts.V[:, :1] @ parts.U[:1], before, rtol=0, atol=1e-4)


def test_mixed_precision_does_not_round_what_decides(make_model, make_step):
    """A cost that is below the bound, and above it to eight bits."""
    model = make_model(sites={"linear1": COUNT}, dtype=torch.float32)
    _make_orthogonal(model.components["linear1"])
    _copy(model.components["linear1"], 0, 2, 0.3)
    step, present = make_step(model, torch.rand(16, 5)), torch.tensor(0.9002)
    step.importance["linear1"].upper.data[:, 0] = present
    between = 0.3 * (1 - (present + present.bfloat16()) / 2)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert _merged(Merging(start=0.5, spread=float(between)), step) == {"linear1": 1}


NEEDED = {
    "superposition": (lambda parts: None, ()),
    "shorter": (lambda parts: parts.V.data[:, 3].mul_(0.5), ()),
    "apart": (lambda parts: _copy(parts, 0, 2, 0.9), ((0, slice(0, 32)), (2, slice(32, 64)))),
}


@pytest.mark.parametrize("case", NEEDED)
def test_what_is_needed_stays(case, make_model, make_step):
    """What reads something else, or is important elsewhere."""
    model = make_model(sites={"linear1": COUNT})
    arrange, silent = NEEDED[case]
    _make_orthogonal(model.components["linear1"])
    arrange(model.components["linear1"])
    step = make_step(model, torch.randn(64, 5, dtype=torch.float64))
    for component, rows in silent:
        step.importance["linear1"].upper.data[rows, component] = 0.0
    before = trained_state(model)

    assert _merged(Merging(start=0.5, spread=0.5), step) == {}

    for name, tensor in trained_state(model).items():
        assert torch.equal(tensor, before[name]), name


def test_reads_of_some_and_writes_of_others_are_two_superpositions(make_step):
    """The first two read the same, the last two write the same."""
    model = DecomposedModel(ToyModelOfSuperposition(5, 3), {"linear1": COUNT})
    parts = model.components["linear1"]
    with torch.no_grad():
        parts.V.copy_(torch.eye(5)[:, [0, 0, 1, 2]])
        parts.U.copy_(torch.eye(3)[[0, 1, 2, 2]])

    assert _merged(MERGING, make_step(model, torch.rand(16, 5))) == {}


def test_of_the_calls_of_one_matrix_the_dearest_counts(model, make_step):
    """Gates of the second site tell the two apart, those of the first do not."""
    parts, x = model.components["linear1"], torch.randn(64, 5, dtype=torch.float64)
    _copy(parts, 0, 2, 0.9)
    step, merging = make_step(model, x), Merging(start=0.5, spread=0.5)
    for component, rows in NEEDED["apart"][1]:
        step.importance["linear2"].upper.data[rows, component] = 0.0
    assert _merged(merging, step) == {}

    assert _merged(merging, make_step(model, x)) == {"linear1": 1}


def test_components_that_are_kept_equal_stay_equal(make_model, make_step, x):
    model = make_model(sites={"linear*": COUNT}, ties={"linear2": "linear1"}, tied_updates="twice")
    _make_orthogonal(model.components["linear1"])
    _copy(model.components["linear1"], 0, 2, 0.3)
    model.twins[0].mirror()

    assert _merged(MERGING, make_step(model, x)) == {"linear1": 1}

    one, other = (model.components[name] for name in ("linear1", "linear2"))
    assert torch.equal(one.V, other.U.T)
    assert torch.equal(one.U, other.V.T)


def test_absences_equal_the_reference():
    importances = torch.rand(16, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    importances[:, 3] = 0.0
    expected = torch.tensor(reference.absences(importances.tolist()), dtype=torch.float64)
    torch.testing.assert_close(absences(importances), expected)


def test_absences_in_weighted_rows_are_those_in_repeated_ones():
    importances = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    repeated = absences(importances[[0, 0, 1, 2]])
    torch.testing.assert_close(absences(importances, weights), repeated)


def test_it_is_due_every_so_many_steps_from_its_start_on():
    merging = Merging(start=0.5, every=3)
    assert [step for step in range(21) if merging.is_due(step, step / 20)] == [12, 15, 18]
    assert not any(Merging().is_due(step, step / 20) for step in range(21))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 1.5}, r"merging.start must lie in \[0, 1\], got 1.5"),
        ({"remainder": -0.5}, r"merging.remainder must lie in \[0, 1\], got -0.5"),
        ({"spread": -0.1}, "merging.spread must be a finite number at least 0, got -0.1"),
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
        _open(module.model)

    def on_train_batch_end(self, trainer, module, *_):
        parts = module.model.components["linear1"]
        self.alive.append(int((_lengths(parts) > 1e-3).sum()))


@pytest.mark.parametrize(("accumulated", "expected"), [(1, [4, 4, 2, 2]), (2, [4, 4, 4, 4, 2, 2, 2, 2])])
def test_training_merges_before_the_step_that_is_due(accumulated, expected, tmp_path, capsys):
    still = Optimization(lr=1e-9, importance_lr=1e-9)
    losses = {"faithfulness": RelativeFaithfulness(), "importance": ImportanceMinimality()}
    merging = Merging(start=0.5, every=2)
    module = toy(sites={"linear1": COUNT}, losses=losses, optimization=still, merging=merging)
    pieces, batches = InTwoPieces(), Batches(*[torch.rand(64, 5)] * 8)

    fit(module, batches, tmp_path, callbacks=[pieces], max_steps=4, accumulate_grad_batches=accumulated)

    assert pieces.alive == expected
    assert "step 2: merged into other components: 2 of linear1\n" in capsys.readouterr().err


@pytest.mark.parametrize("updates", ["once", "twice"])
def test_what_was_changed_by_hand_is_not_moved_by_gradients_from_before(updates, make_model):
    model = make_model(sites={"linear*": COUNT}, ties={"linear2": "linear1"}, tied_updates=updates)
    optimizer, _ = Optimization(lr=0.1).build(model, 10)
    sum(parameter.square().sum() for parameter in model.components.parameters()).backward()
    optimizer.step()
    before = {parameter: state["exp_avg_sq"].clone() for parameter, state in optimizer.state.items()}

    forget_momentum(optimizer, model, "linear1", [1, 3])

    for parts in (parts for parts in model.components.values() if parts.owns_factors):
        for parameter in (parts.V, parts.U):
            moments = optimizer.state[parameter]
            mean = moments["exp_avg"] if parameter is parts.U else moments["exp_avg"].T
            assert torch.nonzero(mean.abs().sum(1))[:, 0].tolist() == [0, 2]
            assert torch.equal(moments["exp_avg_sq"], before[parameter])
    assert len(before) == (2 if updates == "once" else 4)


USED = torch.tensor([True, True, True, False])


@pytest.fixture
def apart(make_model):
    """Components whose sum is not the weight, the first three of which read three of five entries."""
    parts = make_model(sites={"linear1": COUNT}).components["linear1"]
    with torch.no_grad():
        parts.V.zero_()
        parts.V[:3, :3] = torch.tensor([[0.5, 0.1, 0.0], [0.0, 20.0, 0.0], [0.2, 0.0, 1.0]])
        parts.V[4, 3] = 1.0
    return parts


def test_what_components_leave_of_a_weight_is_handed_to_those_that_are_used(apart):
    before = apart.V[:, 3].clone(), apart.U[3].clone()

    with torch.no_grad():
        take_up(apart, USED)

    assert apart.delta().norm() < 1e-3 * apart.site.weight().norm()
    assert torch.equal(apart.V[:, 3], before[0])
    assert torch.equal(apart.U[3], before[1])


@torch.no_grad()
def test_what_no_vector_reaches_is_left(apart):
    """Of one component: what is read across what it read, and written across what it comes to write."""
    left, read = apart.delta(), apart.V[:, 0] / apart.V[:, 0].norm()

    take_up(apart, torch.tensor([True, False, False, False]))

    after, along = apart.delta(), apart.U[0] / apart.U[0].norm()
    assert (after @ read).norm() < 1e-3 * left.norm()
    assert (along @ after).norm() < 1e-3 * left.norm()
    across = torch.stack([-along[1], along[0]])
    beside = torch.eye(5) - torch.outer(read, read)
    torch.testing.assert_close(across @ after @ beside, across @ left @ beside)


def test_what_went_into_others_takes_up_nothing(apart):
    with torch.no_grad():
        apart.V[:, 3], apart.U[3] = 1e-3 * apart.V[:, 0], 1e-3 * apart.U[0]
        before = apart.V[:, 3].clone(), apart.U[3].clone()
        take_up(apart, torch.ones(COUNT, dtype=torch.bool))

    assert apart.delta().norm() < 1e-3 * apart.site.weight().norm()
    assert torch.equal(apart.V[:, 3], before[0])
    assert torch.equal(apart.U[3], before[1])


@torch.no_grad()
def test_components_that_are_all_nothing_take_up_nothing(apart):
    apart.V.zero_()
    take_up(apart, torch.ones(COUNT, dtype=torch.bool))
    assert not apart.weight().any()


@torch.no_grad()
def test_what_is_not_used_takes_up_nothing(make_model):
    model = make_model(sites={"linear1": COUNT})
    parts = model.components["linear1"]
    before = torch.cat([parts.V, parts.U.T]).clone()

    MERGING.hand_out(model, {"linear1": torch.tensor([False, True, False, False])})

    after = torch.cat([parts.V, parts.U.T])
    assert [torch.equal(after[:, c], before[:, c]) for c in range(COUNT)] == [False, True, False, False]


def test_without_a_component_that_is_used_everything_stays(apart):
    before = apart.weight().clone()

    with torch.no_grad():
        take_up(apart, torch.zeros(COUNT, dtype=torch.bool))

    assert torch.equal(apart.weight(), before)


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("start", [0.5, 1.0])
def test_training_hands_out_what_is_left_before_the_last_step(start, accumulated, tmp_path):
    still = Optimization(lr=1e-9, importance_lr=1e-9)
    losses = {"faithfulness": RelativeFaithfulness(), "importance": ImportanceMinimality()}
    merging = Merging(start=start, every=100, unused=1.0)
    module = toy(sites={"linear1": COUNT}, losses=losses, optimization=still, merging=merging)
    _open(module.model)
    left = Left()

    batches = Batches(*[torch.rand(64, 5)] * 8)
    fit(module, batches, tmp_path, callbacks=[left], max_steps=4, accumulate_grad_batches=accumulated)

    assert left.shares[: 3 * accumulated] == pytest.approx([left.shares[0]] * 3 * accumulated, rel=1e-3)
    assert left.shares[0] > 0.1
    assert (left.shares[-1] < 1e-3) == (start < 1)


class Left(Callback):
    """Keeps what is left of a weight after every batch, as a share of it."""

    def __init__(self):
        self.shares = []

    @torch.no_grad()
    def on_train_batch_end(self, trainer, module, *_):
        parts = module.model.components["linear1"]
        self.shares.append((parts.delta().norm() / parts.site.weight().norm()).item())
