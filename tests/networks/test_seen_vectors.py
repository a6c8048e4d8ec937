"""On every network of the list: what the output's gradient says of a component is the gradient of its mask."""

import pytest
import torch

from spd_lightning import Merging
from spd_lightning.losses import Noise, Step
from spd_lightning.methods.seen_vectors import SeenVectors, seen_vectors
from spd_lightning.model import SiteMask
from spd_lightning.model.tracing import output_gradients
from spd_lightning.model.wrapping import site_of
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import ZOO, example

HALF = {"bfloat16"}
SEED = 5


def _model(name):
    model = randomised(decomposed(name))
    return model if name in HALF else model.double()


def _gradients(model, batch):
    generator = torch.Generator().manual_seed(SEED)
    return model.by_call(output_gradients(model.wrapping, batch, generator))


def _reading(output, weights):
    """The sum of the output's counted entries with the signs that the seed gives."""
    signs = torch.randint(0, 2, output.shape, generator=torch.Generator().manual_seed(SEED)).to(output) * 2 - 1
    counted = weights.of(output.shape[:-1])
    chosen = output.isfinite() if counted is None else output.isfinite() & (counted > 0)[..., None]
    return (signs * torch.where(chosen, output, 0)).sum()


@pytest.mark.parametrize("name", ZOO)
def test_a_mask_has_the_gradient_of_what_its_component_reads_and_writes(name):
    model, batch = _model(name), example(name, double=name not in HALF)
    clean = model.clean(batch)
    inner = {call: model.components[site_of(call)].inner(x).detach() for call, x in clean.site_inputs.items()}
    masks = {call: torch.ones_like(a, requires_grad=True) for call, a in inner.items()}
    whole = {call: SiteMask(mask, torch.ones_like(mask[..., 0]).detach()) for call, mask in masks.items()}
    reading = _reading(model.masked(batch, whole).output, clean.weights)
    wanted = torch.autograd.grad(reading, list(masks.values()), materialize_grads=True)

    gradients = _gradients(model, batch)

    tolerance = 0.1 if name in HALF else 1e-8
    assert list(gradients) == list(masks)
    assert sum(bool(gradient.abs().max() > 0) for gradient in wanted) > 0.6 * len(wanted)
    for (call, gradient), expected in zip(gradients.items(), wanted, strict=True):
        along = gradient.to(inner[call]) @ model.components[site_of(call)].U.T
        difference = (inner[call] * along - expected).norm()
        assert difference <= tolerance * expected.norm() + 1e-12, call


def _step(model, batch):
    return Step.of(model, batch, Noise((0,), torch.device("cpu")))


@pytest.mark.parametrize("name", ZOO)
def test_products_are_means_over_the_positions_that_count(name):
    model, batch = _model(name), example(name, double=name not in HALF)
    step, gradients = _step(model, batch), _gradients(model, batch)
    for call, gradient in gradients.items():
        parts = model.components[site_of(call)]
        if parts.transposed:
            continue
        write = gradient.to(parts.U) @ parts.U.T
        sides = seen_vectors(parts, {call: gradient}, step)
        plain = parts.V.T @ parts.V, parts.U @ parts.U.T
        for values, products, side in zip((step.inner(call), write), plain, sides, strict=True):
            rows = step.counted(values.detach().double()).flatten(0, -2)
            wanted = sum(torch.outer(row, row) for row in rows) / len(rows)
            wanted *= products.double().trace() / wanted.trace()
            assert side.positions == len(rows)
            torch.testing.assert_close(side.plain, products.double(), rtol=1e-5, atol=1e-8)
            torch.testing.assert_close(side.seen, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ZOO)
def test_a_piece_goes_into_its_component_and_the_output_stays(name):
    model, batch = _model(name), example(name, double=name not in HALF)
    site = next(name for name, parts in model.components.items() if not parts.transposed)
    parts = model.components[site].source
    with torch.no_grad():
        parts.V[:, 1], parts.U[1] = 0.3 * parts.V[:, 0], parts.U[0]
        for twin in model.twins:
            twin.mirror()
    step, before = _step(model, batch), model(batch)
    for importance in step.importance.values():
        importance.upper.data.fill_(1.0)

    used = {sites[0]: torch.zeros(model.components[sites[0]].n_components).bool() for sites in model.alike}
    merged = Merging(start=0.5, spread=0.1, remainder=0.01).merge(step, used)

    assert len(merged[site]) >= 1
    assert parts.V[:, 1].norm() * parts.U[1].norm() < 0.01 * parts.V[:, 0].norm() * parts.U[0].norm()
    counted = before.isfinite()
    assert (model(batch) - before)[counted].norm() < 0.03 * before[counted].norm()


def test_products_follow_what_a_combination_gives_to_others():
    generator = torch.Generator().manual_seed(SEED)
    values, vectors = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (9, 4))
    side = SeenVectors(values.T @ values / 9, vectors.T @ vectors, 9.0)
    takers, shares, given = torch.tensor([0, 2, 5]), torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64), 3
    taken = torch.tensor([0.0, 0.4, -0.1, 1.0, 0.0, 0.0], dtype=torch.float64)

    side.add(takers, shares, taken)
    side.shrink(given, 0.5)

    for columns in (values, vectors):
        columns[:, takers] += torch.outer(columns @ taken, shares)
        columns[:, given] *= 0.5
    torch.testing.assert_close(side.seen, values.T @ values / 9)
    torch.testing.assert_close(side.plain, vectors.T @ vectors)
