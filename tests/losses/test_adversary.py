from dataclasses import replace
from functools import partial

import pytest
import torch

from spd_lightning.functional import RowShare
from spd_lightning.losses import Reconstruction
from spd_lightning.losses.sources import adversary_start, masks_from_channels
from spd_lightning.model import GateMLP, PerSite
from tests import reference
from tests.comparison import assert_same_with_gradients
from tests.losses import restated

GATE = partial(PerSite, function=partial(GateMLP, hidden=[3]))
SCOPES = pytest.mark.parametrize("scope", ["shared", "per_example"])
WIDTHS = {"linear1": 4, "linear2": 3}


@pytest.fixture
def step(make_model, make_step, x):
    return make_step(make_model(importance=GATE), x)


@pytest.fixture
def seen(step, monkeypatch):
    """Masks of every masked pass."""
    passes, original = [], step.model.masked

    def spy(batch, masks, *others):
        passes.append(masks)
        return original(batch, masks, *others)

    monkeypatch.setattr(step.model, "masked", spy)
    return passes


def _restated(loss, step):
    """The loss at the sources that the reference's ascent finds from the same start."""
    model, x = step.model, restated.flat(step.batch)
    generator = step.noise.generator(0)
    subset = restated.draw_subset(loss, step, generator)
    lower = restated.lower_of(model, restated.logits_of(model, step.batch))
    start = adversary_start(step, loss.adversary_scope, generator)
    shapes = {name: (channels.numel() // channels.shape[-1], channels.shape[-1]) for name, channels in start.items()}

    def distance(flattened, importances):
        pieces = flattened.split([rows * width for rows, width in shapes.values()])
        masks, deltas = {}, {}
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True):
            source = piece.reshape(shape).expand(len(x), -1)
            masks[name] = reference.mask(importances[name], source[:, : WIDTHS[name]])
            deltas[name] = source[:, -1]
        return restated.distance_of(loss, step, masks, deltas if model.use_delta else None, subset)

    constants = {name: g.detach() for name, g in lower.items()}
    flattened = torch.cat([channels.flatten() for channels in start.values()])
    worst = reference.sign_ascent(
        lambda source: distance(source, constants), flattened, loss.adversary_steps, loss.adversary_step_size
    )
    return distance(worst, lower)


@SCOPES
@pytest.mark.parametrize("routing", ["all", "layerwise", "subset"])
@pytest.mark.parametrize("use_delta", [True, False])
def test_equals_the_reference(step, scope, routing, use_delta):
    step.model.use_delta = use_delta
    loss = Reconstruction(
        sources="adversarial", routing=routing, adversary_steps=3, adversary_step_size=0.2, adversary_scope=scope
    )
    trained = [parameter for parameter in step.model.parameters() if parameter.requires_grad]
    assert_same_with_gradients(loss(step), _restated(loss, step), trained)


@SCOPES
def test_the_ascent_raises_the_distance(step, scope):
    loss = Reconstruction(sources="adversarial", adversary_steps=10, adversary_step_size=0.1, adversary_scope=scope)
    start = adversary_start(step, scope, step.noise.generator(0))
    masks = masks_from_channels(step, step.importance, start)
    before = (step.masked(masks) - step.clean.output).square().mean()
    assert loss(step) > 1.05 * before


@SCOPES
def test_sources_stay_in_the_unit_interval(step, seen, scope):
    loss = Reconstruction(sources="adversarial", adversary_steps=5, adversary_step_size=0.7, adversary_scope=scope)
    loss(step)
    assert len(seen) == 6
    for masks in seen:
        for name, mask in masks.items():
            lower = step.importance[name].lower
            assert (mask.components >= lower - 1e-12).all()
            assert (mask.components <= 1 + 1e-12).all()
            assert ((mask.delta >= 0) & (mask.delta <= 1)).all()
            assert mask.delta.shape == step.batch.shape[:-1]


@pytest.mark.parametrize(("scope", "one"), [("shared", True), ("per_example", False)])
def test_scope_decides_whether_examples_share_a_source(step, seen, scope, one):
    Reconstruction(sources="adversarial", adversary_step_size=0.05, adversary_scope=scope)(step)
    for name, mask in seen[-1].items():
        lower = step.importance[name].lower
        source = restated.flat((mask.components - lower) / (1 - lower)).detach()
        free = (lower < 0.9).flatten(0, -2).all(0)
        assert free.any()
        assert torch.allclose(source[:, free], source[:1, free].expand(len(source), -1), atol=1e-9) == one
        assert bool((mask.delta == mask.delta.flatten()[0]).all()) == one


@SCOPES
def test_the_ascent_leaves_no_gradient_behind(step, scope):
    loss = Reconstruction(sources="adversarial", adversary_steps=3, adversary_scope=scope)(step)
    assert all(parameter.grad is None for parameter in step.model.parameters())
    loss.backward()
    assert step.model.components["linear1"].V.grad is not None
    assert all(parameter.grad is None for parameter in step.model.target.parameters())


def test_an_attack_works_where_gradients_are_off(step):
    loss = Reconstruction(sources="adversarial", adversary_steps=5, adversary_step_size=0.2)
    with torch.no_grad():
        value = loss(step)
    torch.testing.assert_close(value, loss(step).detach())


@SCOPES
def test_a_single_example_without_a_batch_dimension(make_model, make_step, scope):
    model = make_model(importance=GATE)
    loss = Reconstruction(sources="adversarial", adversary_scope=scope)
    row = torch.rand(5, dtype=torch.float64)
    assert torch.isfinite(loss(make_step(model, row)))


def test_a_ladder_is_one_ascent_looked_at_on_its_way(step):
    """Each rung is what a loss with so many steps, from the same start, finds."""
    rungs = [5, 1, 2]
    loss = Reconstruction(sources="adversarial", adversary_steps=1, adversary_step_size=0.3)

    reached = loss.ladder(step, rungs)

    assert list(reached) == [1, 2, 5]
    for steps, distance in reached.items():
        alone = Reconstruction(sources="adversarial", adversary_steps=steps, adversary_step_size=0.3)
        torch.testing.assert_close(distance, alone(step), rtol=1e-12, atol=1e-12)
    assert reached[5] > reached[1]


@pytest.mark.parametrize("use_delta", [True, False])
def test_a_process_without_rows_starts_from_the_source_of_the_others(make_model, make_step, x, use_delta):
    model = make_model(importance=GATE, use_delta=use_delta)
    rows = x.reshape(-1, x.shape[-1])
    starts = []
    for held, first in ((rows, 0), (rows[:0], len(rows))):
        step = make_step(model, held)
        step = replace(step, noise=replace(step.noise, share=RowShare(first, len(rows))))
        starts.append(adversary_start(step, "shared", step.noise.generator(0)))
        masks = masks_from_channels(step, step.importance, starts[-1])
        assert {len(mask.components) for mask in masks.values()} == {len(held)}
    torch.testing.assert_close(*starts, rtol=0, atol=0)
