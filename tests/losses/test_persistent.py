"""The adversary that is kept from step to step: against the formulas, in checkpoints, and where it does not fit."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import Linear, Sequential

from spd_lightning import DecomposedModel, UsageError
from spd_lightning.functional import RowShare
from spd_lightning.losses import PersistentAdversary
from spd_lightning.losses.sources import random_channels
from spd_lightning.model import GateMLP, PerSite
from tests import reference
from tests.comparison import assert_same_with_gradients
from tests.losses import restated

GATE = partial(PerSite, function=partial(GateMLP, hidden=[3]))
SCOPES = pytest.mark.parametrize("scope", ["row", "position", "component", "pool"])
MERGED = pytest.mark.parametrize("share", [1.0, 0.5])


@pytest.fixture
def step(make_model, make_step):
    x = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return make_step(make_model(importance=GATE), x, progress=0.5)


class Restated:
    """One step of the adversary on ``tests.reference``, from given sources and draws."""

    def __init__(self, loss, step):
        self.loss, self.step = loss, step
        self.sources = {table: source.clone() for table, source in loss.kept.values.items()}
        self.first = {table: [0.0] * source.numel() for table, source in self.sources.items()}
        self.second = {table: [0.0] * source.numel() for table, source in self.sources.items()}
        self.pushes = 0
        self.lower = restated.lower_of(step.model, restated.logits_of(step.model, step.batch))
        self.merged = loss._merged(step)

    def of_row(self, table, source, n, batch, position):
        match self.loss.scope:
            case "row":
                return source[batch, position]
            case "position":
                return source[0, position]
            case "component":
                return source[0]
        return source[self.loss.kept._picked(self.step, 2)[batch]]

    def distance(self, sources, lower):
        masks, deltas, routed = {}, {}, {}
        for table, source in sources.items():
            rows = [self.of_row(table, source, n, n // 3, n % 3) for n in range(6)]
            if self.merged is not None:
                chosen = self.merged.chosen[table].flatten()
                spare = restated.flat(self.merged.spare[table])
                rows = [row if chosen[n] else spare[n] for n, row in enumerate(rows)]
                routed[table] = self.merged.routing[table].flatten()
            rows = torch.stack(rows)
            masks[table], deltas[table] = reference.mask(lower[table], rows[:, :-1]), rows[:, -1]
        model, x = self.step.model, restated.flat(self.step.batch)
        sites, bias = restated.sites_of(model), model.target.linear2.bias
        distance = getattr(reference, self.loss.distance)
        return reference.joint_reconstruction(distance, x, sites, bias, masks, deltas, routed or None)

    def push(self, gradients):
        for table, gradient in gradients.items():
            flat = self.sources[table].flatten().tolist(), gradient.flatten().tolist()
            moments = self.first[table], self.second[table]
            moved, self.first[table], self.second[table] = reference.adam_push(
                *flat, *moments, self.pushes, self.loss.lr
            )
            self.sources[table] = torch.tensor(moved, dtype=torch.float64).reshape(self.sources[table].shape)
        self.pushes += 1

    def gradients(self, lower):
        leaves = {table: source.detach().requires_grad_() for table, source in self.sources.items()}
        reached = self.distance(leaves, lower)
        return leaves, reached


@SCOPES
@MERGED
@pytest.mark.parametrize("distance", ["mse", "kl"])
def test_a_step_equals_the_reference(step, scope, share, distance):
    """Value, gradients of the decomposition, and the sources after all three pushes."""
    loss = PersistentAdversary(scope=scope, share=share, pool=3, distance=distance, lr=0.1)
    loss.kept.start(step)
    expected = Restated(loss, step)
    constants = {name: g.detach() for name, g in expected.lower.items()}

    found = loss(step)
    for _ in range(loss.ascents):
        leaves, reached = expected.gradients(constants)
        gradients = torch.autograd.grad(reached, list(leaves.values()))
        expected.push(dict(zip(leaves, gradients, strict=True)))
    leaves, wanted = expected.gradients(expected.lower)
    trained = [parameter for parameter in step.model.parameters() if parameter.requires_grad]
    own = torch.autograd.grad(wanted, list(leaves.values()), retain_graph=True)
    (0.7 * found).backward(retain_graph=True)
    loss.after_backward(0.7)
    expected.push(dict(zip(leaves, own, strict=True)))

    assert_same_with_gradients(found, wanted, trained)
    for table, source in expected.sources.items():
        torch.testing.assert_close(loss.kept.values[table], source, rtol=1e-9, atol=1e-9)
        assert loss.kept.moments.pushes == 3


@pytest.mark.parametrize("use_delta", [True, False])
def test_the_distance_grows_from_step_to_step(step, use_delta):
    step.model.use_delta = use_delta
    loss = PersistentAdversary(distance="mse", lr=0.05)
    seen = [loss(step).item() for _ in range(8)]
    assert seen[-1] > 1.3 * seen[0]
    assert all(((source >= 0) & (source <= 1)).all() for source in loss.kept.values.values())


def test_the_start_is_uniform_and_the_same_for_the_same_seed(step):
    starts = []
    for _ in range(2):
        loss = PersistentAdversary()
        loss.kept.start(step)
        starts.append(loss.kept.values)
    torch.testing.assert_close(*starts, rtol=0, atol=0)
    drawn = random_channels(step, "uniform", step.noise.generator("start"))
    torch.testing.assert_close(starts[0], drawn, rtol=0, atol=0)


def test_without_gradient_nothing_moves(step):
    loss = PersistentAdversary()
    loss(step)
    before = {table: source.clone() for table, source in loss.kept.values.items()}
    with torch.no_grad():
        loss(step)
    loss.after_backward(1.0)
    torch.testing.assert_close(loss.kept.values, before, rtol=0, atol=0)


def test_rates_rise_over_the_warm_up():
    loss = PersistentAdversary(lr=0.02, warmup=0.1)
    assert [loss.rates_at(progress).lr for progress in (0.0, 0.05, 0.1, 1.0)] == pytest.approx([0, 0.01, 0.02, 0.02])
    assert PersistentAdversary(lr=0.02, warmup=0.0).rates_at(0.0).lr == 0.02


@SCOPES
def test_a_copy_goes_on_from_the_state_exactly(step, scope):
    one, two = (PersistentAdversary(scope=scope, pool=3) for _ in range(2))
    assert one.state() is None
    for _ in range(2):
        one(step).backward(retain_graph=True)
        one.after_backward(1.0)
    two.load_state(one.state())
    torch.testing.assert_close(two.state(), one.state(), rtol=0, atol=0)  # before its first step, too
    assert one(step).item() == two(step).item()
    torch.testing.assert_close(two.state(), one.state(), rtol=0, atol=0)


@pytest.mark.parametrize("scope", ["row", "position"])
def test_batches_of_another_shape_are_refused(step, make_step, scope):
    loss = PersistentAdversary(scope=scope)
    loss(step)
    longer = make_step(step.model, torch.rand(2, 4, 5, dtype=torch.float64))
    with pytest.raises(UsageError, match=rf"^PersistentAdversary: scope '{scope}' needs batches of one shape, but "):
        loss(longer)


def test_a_smaller_batch_takes_the_first_rows(step, make_step):
    loss = PersistentAdversary(ascents=0)
    loss(step)
    fewer, first = make_step(step.model, step.batch[:1]), PersistentAdversary(ascents=0)
    first.kept.start(fewer)
    first.kept.values = {table: source[:1] for table, source in loss.kept.values.items()}
    assert loss(fewer) == first(fewer)
    first.kept.values = {table: source[1:] for table, source in loss.kept.values.items()}
    assert loss(fewer) != first(fewer)


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_relative_pushes_do_not_depend_on_the_scale_of_outputs(make_step, factor):
    """Those before the term is computed, and the last, are gradients of one size for Adam."""
    torch.manual_seed(0)
    network = Sequential(Linear(5, 3, bias=False), Linear(3, 2, bias=False))
    model, pushed = DecomposedModel(network, {"*": 4}, importance=GATE).double(), []
    for scale in (1.0, factor):
        with torch.no_grad():
            network[1].weight.mul_(scale)
            model.components["1"].U.mul_(scale)
        loss = PersistentAdversary(distance="mse", eps=1e-30, relative=True)
        (0.5 * loss(make_step(model, torch.ones(3, 5, dtype=torch.float64), progress=0.5))).backward()
        loss.after_backward(0.5)
        pushed.append(loss.kept.values)
    torch.testing.assert_close(*pushed)


@SCOPES
def test_a_process_without_rows_has_the_sources_of_the_others(step, make_step, scope):
    """But for those that belong to rows."""
    loss, alone = PersistentAdversary(scope=scope, pool=3), PersistentAdversary(scope=scope, pool=3)
    shared = replace(step, noise=replace(step.noise, share=RowShare(0, 2)))
    empty = make_step(step.model, step.batch[:0])
    alone.kept.start(replace(empty, noise=replace(empty.noise, share=RowShare(2, 2))))
    loss.kept.start(shared)
    expected = {table: source[:0] if scope == "row" else source for table, source in loss.kept.values.items()}
    torch.testing.assert_close(alone.kept.values, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"scope": "token"}, "scope must be one of 'row', 'position', 'component', 'pool', got 'token'"),
        ({"pool": 0}, "pool must be at least 1"),
        ({"ascents": -1}, "ascents must be at least 0"),
        ({"share": 0.0}, "share must lie in"),
        ({"lr": 0.0}, "lr must be a finite number above 0"),
        ({"beta1": 1.5}, "beta1 must lie in"),
    ],
)
def test_nonsense_is_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        PersistentAdversary(**arguments)
