"""Vectors that are fitted to data, against least squares written out and features that are known."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from spd_lightning import DecomposedModel, UsageError
from spd_lightning.analysis import Edit, edit_report, edited, fitted_vectors
from spd_lightning.model import AttributedModel
from tests.analysis.edits import known_residual_mlp
from tests.analysis.test_edit_report import _tagger
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import example, network

SEEDS = range(1, 9)


def _linear(site_input, _):
    return site_input


def _one_hot(tokens, module):
    return F.one_hot(tokens, module.num_embeddings).double()


def _patches(images, module):
    found = F.unfold(images, module.kernel_size, padding=module.padding, stride=module.stride)
    rows = (images.shape[2] + 2 * module.padding[0] - module.kernel_size[0]) // module.stride[0] + 1
    return found.transpose(1, 2).unflatten(1, (rows, -1))


@torch.no_grad()
def _restated(model, site, numbers, batches, vectors_of):
    """Least squares over a list of positions; padding is left out one position after the other."""
    parts, inputs, wanted = model.components[site], [], []
    for batch in batches:
        clean, lower = model.clean(batch), model.importance_of(batch)[site].lower
        vectors = vectors_of(clean.site_inputs[site], parts.site.module)
        counted = batch["attention_mask"] if isinstance(batch, dict) else torch.ones(vectors.shape[:-1])
        for place in counted.nonzero().tolist():
            vector = vectors[tuple(place)]
            inputs.append(vector)
            reads = [vector @ parts.V[:, c] if lower[tuple(place)][c] > 0.1 else vector.sum() * 0 for c in numbers]
            wanted.append(torch.stack(reads))
    X, Y = torch.stack(inputs), torch.stack(wanted)
    read = torch.linalg.lstsq(X, Y, driver="gelsd").solution
    write = torch.linalg.lstsq(X @ read, X @ parts.site.weight().T, driver="gelsd").solution
    explained = 1 - (Y - X @ read).square().sum(0) / Y.square().sum(0)
    return read, write, explained


@pytest.mark.parametrize(
    ("name", "site", "numbers", "vectors_of"),
    [
        ("padded dictionary", "mix", [3, 2], _linear),
        ("token transformer", "embed", [2, 0], _one_hot),
        ("cnn", "first", [3, 1], _patches),
    ],
)
def test_vectors_are_those_of_least_squares(name, site, numbers, vectors_of):
    model = _tagger() if name == "padded dictionary" else randomised(decomposed(name)).double()
    batches = [example(name, seed, double=True) for seed in SEEDS]
    fitted = fitted_vectors(model, [Edit(site, number) for number in numbers], batches)[site]
    read, write, explained = _restated(model, site, numbers, batches, vectors_of)

    assert list(fitted.components) == numbers
    assert torch.allclose(fitted.read, read, atol=1e-4)
    assert torch.allclose(fitted.write, write, rtol=1e-3, atol=1e-3)
    assert torch.allclose(fitted.explained, explained, atol=1e-4)
    linear = (explained < 0.05) | (explained > 0.999)
    assert not linear.all() or vectors_of is _one_hot  # where importance depends on the token alone


@torch.no_grad()
def test_nothing_that_is_written_goes_with_what_was_removed():
    model, batches = _tagger(), [example("padded dictionary", seed) for seed in SEEDS]
    edits = [Edit("mix", 2), Edit("mix", 3)]
    fitted = fitted_vectors(model, edits, batches)
    changed = edited(model, edits, fitted=fitted).mix.weight
    reads = torch.cat([model.clean(batch).site_inputs["mix"][batch["attention_mask"] == 1] for batch in batches])

    def shared(weight):
        return ((reads @ weight.T).T @ (reads @ fitted["mix"].read)).norm()

    assert shared(changed) < 1e-4 * shared(model.target.mix.weight)
    untouched = edited(model, [Edit("mix", 2, 1.0), Edit("mix", 3, 1.0)], fitted=fitted)
    assert torch.equal(untouched.mix.weight, model.target.mix.weight)
    one = edited(model, [Edit("mix", 2, 0.25)], fitted=fitted).mix.weight
    wanted = model.target.mix.weight - 0.75 * torch.outer(fitted["mix"].write[0], fitted["mix"].read[:, 0])
    assert torch.allclose(one, wanted)


@torch.no_grad()
def _blurred():
    """A residual MLP whose component of feature 1 reads a little of feature 2, and writes too little of its own."""
    model = known_residual_mlp(layers=1)
    parts = model.components["layers.0.mlp_in"]
    parts.V[:, 1] += 0.04 * model.target.embedding[2]
    parts.U[1] *= 0.95
    return model


@torch.no_grad()
def test_a_blurred_component_is_removed_as_if_its_feature_had_never_been_seen():
    model = _blurred()
    values = torch.linspace(-1, 1, 20)[:, None, None] * torch.eye(4)
    edits = [Edit("layers.0.mlp_in", 1)]
    fitted = fitted_vectors(model, edits, values.unbind())
    x = torch.rand(200, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    target = model.target
    hidden = target.layers[0]((x * torch.tensor([1.0, 0, 1, 1])) @ target.embedding)  # it is never shown the feature
    never = x + hidden @ target.embedding.T

    assert torch.allclose(edited(model, edits, fitted=fitted)(x), never, atol=1e-5)
    plain = (edited(model, edits)(x) - never).abs().amax(0)
    assert plain[1] > 1e-2
    reports = [edit_report(model, edits, [x], draws=1, fitted=some) for some in (None, fitted)]
    assert [report.fitted for report in reports] == [
        {},
        {"layers.0.mlp_in": fitted["layers.0.mlp_in"].explained.tolist()},
    ]
    assert reports[1].edited.effect > reports[0].edited.effect


def test_what_was_not_fitted_cannot_be_edited_with_what_was():
    model = _blurred()
    fitted = fitted_vectors(model, [Edit("layers.0.mlp_in", 1)], torch.eye(4)[None].expand(2, 4, 4))
    for edit in (Edit("layers.0.mlp_in", 2), Edit("layers.0.mlp_out", 1)):
        with pytest.raises(UsageError, match=f"{edit.site}:{edit.component} is not among those that were fitted"):
            edited(model, [edit], fitted=fitted)


@pytest.mark.parametrize(
    ("edit", "rows", "message"),
    [
        (Edit("layers.0.mlp_in", 1), 1, "has 7 inputs, which 4 positions do not determine; fit to more batches"),
        (Edit("layers.0.mlp_in", 4), 3, r"layers.0.mlp_in:4 is nowhere important \(above 0.1\) on the data"),
        (Edit("layers.0.mlp_in", 5), 3, "there is no component layers.0.mlp_in:5"),
    ],
)
def test_fits_that_cannot_be_made_are_refused(edit, rows, message):
    with pytest.raises(UsageError, match=message):
        fitted_vectors(known_residual_mlp(layers=1), [edit], [torch.eye(4)] * rows)


def test_the_older_method_and_too_wide_sites_are_refused(monkeypatch):
    attributed = AttributedModel(network("pooled head"), ["up"], n_components=3, rank=2)
    with pytest.raises(UsageError, match="fits components of rank one"):
        fitted_vectors(attributed, [Edit("up", 1)], [])
    monkeypatch.setattr("spd_lightning.analysis.site_fitting.MOST_INPUTS", 7)
    with pytest.raises(UsageError, match="fits sites of at most 7 inputs, 'up' has 8"):
        fitted_vectors(DecomposedModel(network("pooled head"), {"up": 3}), [Edit("up", 1)], [])
