"""What an edit is said to do, against loops over positions and networks that are known by hand."""

import math

import pytest
import torch

from spd_lightning import DecomposedModel, Grouping, KeywordCall, UsageError
from spd_lightning.analysis import Edit, edit_report, edited
from spd_lightning.analysis.edit_controls import COMPONENTS, DIRECTIONS, controls
from spd_lightning.analysis.edit_outcomes import at_positions, fires
from spd_lightning.analysis.editing import changes, resolved
from spd_lightning.model import AttributedModel
from tests.analysis.edits import known_residual_mlp
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import ZOO, example, network

NAME = "padded dictionary"


def _tagger():
    call = KeywordCall(["input_ids", "attention_mask"], "attention_mask", "logits", labels="labels")
    return randomised(DecomposedModel(network(NAME), ZOO[NAME].sites, call=call)).double()


def _batches():
    batches = [example(NAME, seed) for seed in (1, 2)]
    return [batch | {"labels": batch["labels"] % 5} for batch in batches]


@torch.no_grad()
def _restated(model, edit, batches):
    """Mean divergence and rise of cross entropy over real tokens, inside and outside, one position after the other."""
    changed = edited(model, [edit])
    found = {True: [], False: []}
    for batch in batches:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        before, after = model.target(**inputs).logits.log_softmax(-1), changed(**inputs).logits.log_softmax(-1)
        importance = model.importance_of(batch)[edit.site].lower[..., edit.component]
        for row in range(before.shape[0]):
            for place in range(before.shape[1]):
                if not batch["attention_mask"][row, place]:
                    continue
                p, q = before[row, place, :5], after[row, place, :5]  # the sixth is ruled out
                divergence = sum(float(p[k].exp() * (p[k] - q[k])) for k in range(5))
                label = batch["labels"][row, place]
                found[bool(importance[row, place] > 0.1)].append((divergence, float(p[label] - q[label])))
    return found


@pytest.mark.parametrize("component", range(5))
def test_effects_are_means_over_real_tokens(component):
    model, batches = _tagger(), _batches()
    edit = Edit("mix", component)
    report = edit_report(model, [edit], batches, "kl", draws=1)
    found = _restated(model, edit, batches)

    count = len(found[True]) + len(found[False])
    assert count == report.positions == 26
    assert report.share == pytest.approx(len(found[True]) / count)
    for inside, names in ((True, ("effect", "loss_effect")), (False, ("elsewhere", "loss_elsewhere"))):
        for column, name in enumerate(names):
            value = getattr(report.edited, name).item()
            if not found[inside]:
                assert math.isnan(value)
                continue
            wanted = sum(entry[column] for entry in found[inside]) / len(found[inside])
            assert value == pytest.approx(wanted, abs=1e-9)


def test_some_of_these_edits_have_both_kinds_of_positions():
    model, batches = _tagger(), _batches()
    shares = [edit_report(model, [Edit("mix", number)], batches, "kl", draws=1).share for number in range(5)]
    assert any(0 < share < 1 for share in shares)


def test_random_changes_are_as_large_at_every_site():

    model = randomised(decomposed("token transformer"))
    chosen = resolved(model, [Edit("up", 1), Edit("up", 2), Edit("embed", 0, 0.5)])
    found = changes(model, chosen)
    alive = {name: torch.arange(parts.n_components) % 5 != 3 for name, parts in model.components.items()}
    drawn = controls(model, found, {"up": {1, 2}, "embed": {0}}, alive, 6, seed=3)

    assert {kind: len(some) for kind, some in drawn.items()} == {DIRECTIONS: 6, COMPONENTS: 6}
    for some in (*drawn[DIRECTIONS], *drawn[COMPONENTS]):
        for name, change in found.items():
            assert some[name].matrix().norm().item() == pytest.approx(change.matrix().norm().item(), rel=1e-4)
    assert all(not set(some["up"].components) & {1, 2, 3} for some in drawn[COMPONENTS])
    assert all(len(set(some["up"].components)) == 2 for some in drawn[COMPONENTS])
    assert len({some["up"].components for some in drawn[COMPONENTS]}) > 1
    kept = model.components["up"]
    number = drawn[COMPONENTS][0]["up"].components[0]
    removed = -torch.outer(kept.U[number], kept.V[:, number])
    cosine = torch.cosine_similarity(
        removed.flatten() - torch.outer(*_other(kept, drawn[COMPONENTS][0]["up"])).flatten(),
        drawn[COMPONENTS][0]["up"].matrix().flatten(),
        dim=0,
    )
    assert cosine.item() == pytest.approx(1, abs=1e-5)


def _other(kept, change):
    number = change.components[1]
    return kept.U[number], kept.V[:, number]


def test_padding_makes_no_component_important():
    model, batch = _tagger(), _batches()[0]
    importance = model.importance_of(batch)["mix"]
    found = fires(importance, model.call.arguments(batch).weights, 0.1)
    assert not found[batch["attention_mask"] == 0].any()
    real = batch["attention_mask"] == 1
    assert torch.equal(found[real], importance.lower[real] > 0.1)
    assert (importance.lower[~real] > 0.1).any()


def test_a_component_of_the_older_method_is_measured_at_all_of_its_sites():
    model = AttributedModel(network("in-place residual"), ["a", "c"], n_components=4, rank=2)
    batch = example("in-place residual")
    report = edit_report(model, [Edit("a", 1)], [batch], draws=2)

    assert [(edit.site, edit.component) for edit in report.edits] == [("a", 1), ("c", 1)]
    assert set(report.size) == {"a", "c"}
    important = model.importance_of(batch)["a"].lower[..., 1] > 0.1
    assert report.share == pytest.approx(important.double().mean().item())
    with torch.no_grad():
        moved = (model(batch, ablated={"a": [1]}) - model.target(batch)).square().mean().item()
    parts = (report.edited.effect.item(), report.share), (report.edited.elsewhere.item(), 1 - report.share)
    assert sum(value * share for value, share in parts if share) == pytest.approx(moved, rel=1e-4)


def test_without_another_component_there_is_none_to_compare_with():
    model = DecomposedModel(network("pooled head"), {"up": 1})
    report = edit_report(model, [Edit("up", 0)], [example("pooled head")], draws=2)
    assert list(report.controls) == ["random directions"]


def test_a_mechanism_matters_where_it_is_important_and_nowhere_else():
    model = known_residual_mlp()
    x = torch.rand(400, 4, generator=torch.Generator().manual_seed(1)) * (torch.arange(1600).reshape(400, 4) % 3 == 0)
    edits, grouping = [Edit("layers.0.mlp_in", 2)], Grouping.across(model.site_names, 5)
    report = edit_report(model, edits, [x[:150], x[150:]], "mse", draws=4, mechanisms=grouping)

    assert len(report.edits) == 4
    fires = x[:, 2] > 0.05 / 1.4  # where the second layer reads 1.4 times the feature, and its gate twice that
    assert report.share == pytest.approx(fires.float().mean().item())
    with torch.no_grad():
        lost = (model.target(x)[:, 2] - x[:, 2]).square() / 4  # the other three outputs stay
    assert report.edited.effect.item() == pytest.approx(lost[fires].mean().item(), rel=1e-4)
    assert report.edited.elsewhere.item() == pytest.approx(lost[~fires].mean().item(), abs=1e-6)
    assert report.edited.loss_effect.isnan().all()
    for outcome in report.controls.values():
        assert len(outcome.effect) == 4
        assert outcome.elsewhere.mean() > 100 * report.edited.elsewhere.item()
    assert report.size["layers.0.mlp_in"] == pytest.approx(1, rel=1e-4)
    assert report.relative_size["layers.0.mlp_in"] == pytest.approx(0.5, rel=1e-4)


def test_the_same_seed_draws_the_same_changes():
    model, batch = decomposed("pooled head"), example("pooled head")
    first, again = (edit_report(model, [Edit("up", 0)], [batch], draws=3, seed=5) for _ in range(2))
    other = edit_report(model, [Edit("up", 0)], [batch], draws=3, seed=6)
    columns = [report.controls["random directions"].elsewhere for report in (first, again, other)]
    assert torch.equal(columns[0].nan_to_num(), columns[1].nan_to_num())
    values = [report.controls["random directions"] for report in (first, other)]
    assert not torch.equal(*(torch.stack([one.effect, one.elsewhere]).nan_to_num() for one in values))


@pytest.mark.parametrize(
    ("marked", "leading", "wanted"),
    [
        ([[1, 0], [0, 0]], (2, 2), [[1, 0], [0, 0]]),
        ([[1, 0], [0, 0]], (2,), [1, 0]),
        ([1, 0], (2, 3), [[1, 1, 1], [0, 0, 0]]),
        ([[1, 0], [0, 0]], (4,), [1, 0, 0, 0]),
        ([[0, 1, 0], [0, 0, 0]], (2, 2), [[1, 1], [0, 0]]),
    ],
)
def test_marks_of_a_site_are_found_at_the_output(marked, leading, wanted):
    found = at_positions(torch.tensor(marked, dtype=torch.bool), torch.Size(leading))
    assert found.tolist() == torch.tensor(wanted, dtype=torch.bool).tolist()


def test_positions_that_have_nothing_in_common_are_refused():
    with pytest.raises(UsageError, match="say nothing about an output"):
        at_positions(torch.zeros(3, 2, dtype=torch.bool), torch.Size([4]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": []}, "edit: the data holds no batches to measure on"),
        ({"threshold": 2.0}, "edit: threshold must lie in"),
        ({"draws": 0}, "edit: draws must be at least 1, got 0"),
    ],
)
def test_reports_that_cannot_be_made_are_refused(options, message):
    settings = {"batches": [example("pooled head")]} | options
    with pytest.raises(UsageError, match=message):
        edit_report(decomposed("pooled head"), [Edit("up", 0)], **settings)
