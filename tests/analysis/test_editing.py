"""An edited network is the masked decomposition, for good, and the original stays what it was."""

import pytest
import torch
from torch import nn

from spd_lightning import DecomposedModel, Grouping, LoadedWeights, Unfused, UsageError
from spd_lightning.analysis import Edit, edited, save_edited
from spd_lightning.analysis.editing import changes, resolved, shared_with
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.model import AttributedModel
from tests.analysis.edits import added_up, known_residual_mlp, removals
from tests.callbacks.perfect import perfect_decomposition
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import ZOO, example, network

HALF = {"bfloat16"}


def _output(model, changed, batch):
    arguments = model.call.arguments(batch)
    return model.call.chosen(changed(*arguments.args, **arguments.kwargs))


def _model(name):
    model = decomposed(name)
    return randomised(model if name in HALF else model.double())


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_removed_components_are_those_that_masks_leave_out(name, tmp_path):
    model, batch = _model(name), example(name, double=name not in HALF)
    edits, without = removals(model)
    before = fingerprint(model.target)
    changed = edited(model, edits)

    found, wanted = _output(model, changed, batch), model(batch, ablated=without)
    assert not torch.allclose(wanted, model(batch, ablated={}), atol=1e-3)  # else nothing is tested
    tolerance = 0.1 * float(wanted[wanted.isfinite()].abs().max()) if name in HALF else 1e-8
    assert torch.allclose(found, wanted, atol=tolerance)
    assert fingerprint(model.target) == before

    save_edited(changed, tmp_path / "edited")
    original = network(name)
    LoadedWeights(str(tmp_path / "edited" / "model.safetensors")).prepare(original.to(next(changed.parameters()).dtype))
    assert torch.equal(_output(model, original, batch), found)


def test_scaled_and_redirected_components_are_entries_of_the_matrix():
    model = _model("pooled head")
    parts = model.components["up"]
    direction = torch.arange(1.0, 13.0).double()
    length = parts.U[3].norm()
    network = edited(
        model,
        [
            Edit("up", 1, 0.25),
            Edit("up", 3, 1.5, direction),
            Edit("down", 0, 1.0, ("down", 4)),
            Edit("down", 2, -1.0),
        ],
    )
    wanted = {1: 0.25 * parts.U[1], 3: 1.5 * length * direction / direction.norm()}
    assert torch.allclose(network.up.weight, added_up(model, "up", wanted))
    U = model.components["down"].U
    wanted = {0: U[4] * U[0].norm() / U[4].norm(), 2: -U[2]}
    assert torch.allclose(network.down.weight, added_up(model, "down", wanted))
    assert torch.equal(network.head.weight, model.target.head.weight)


def test_a_factor_of_one_changes_nothing():
    model = _model("pooled head")
    network = edited(model, [Edit("up", 1, 1.0)])
    assert torch.equal(network.up.weight, model.target.up.weight)


def test_tied_sites_lose_a_component_once_under_either_name():
    model = _model("tied embedding")
    edits = [[Edit("embed", 2)], [Edit("unembed", 2)], [Edit("unembed", 2), Edit("embed", 2)]]
    one, other, both = (edited(model, some) for some in edits)

    assert torch.allclose(one.embed.weight, other.embed.weight, atol=1e-12)
    assert torch.equal(both.embed.weight, other.embed.weight)
    assert one.unembed.weight is one.embed.weight
    assert shared_with(model.target, model.components["embed"].site) == ["embed.weight", "unembed.weight"]
    assert shared_with(model.target, model.components["mid"].site) == []


def test_a_group_goes_together():
    model = _model("pooled head")
    labels = {name: torch.full((5,), -1) for name in model.site_names}
    labels["up"][1] = labels["up"][4] = labels["head"][0] = 7
    chosen = resolved(model, [Edit("up", 4, 0.5), Edit("down", 3)], Grouping(labels))

    named = [(edit.site, edit.component, edit.factor) for edit in chosen]
    assert named == [("up", 1, 0.5), ("up", 4, 0.5), ("head", 0, 0.5), ("down", 3, 0.0)]


def test_components_that_span_sites_go_everywhere():
    target = network("pooled head")
    model = AttributedModel(target, ["up", "down"], n_components=3, rank=2, init_scale=1.0)
    changed = edited(model, [Edit("up", 1)])
    batch = example("pooled head")

    with torch.no_grad():
        assert torch.allclose(changed(batch), model(batch, ablated={"down": [1]}), atol=1e-5)
        assert not torch.allclose(changed(batch), target(batch), atol=1e-3)


def test_the_norm_of_a_change_is_that_of_its_matrix():
    model = _model("pooled head")
    change = changes(model, [Edit("up", 1), Edit("up", 3, 0.5)])["up"]
    assert change.norm() == pytest.approx(change.matrix().norm().item())
    assert change.components == (1, 3)


@torch.no_grad()
def test_a_feature_s_mechanism_is_gone_and_no_other():
    model = known_residual_mlp()
    inputs = torch.rand(200, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    network = edited(model, [Edit("layers.0.mlp_in", 1)], Grouping.across(model.site_names, 5))

    assert torch.allclose(network(inputs)[:, 1], inputs[:, 1], atol=1e-2)  # of a network without neurons for it
    others = [0, 2, 3]
    assert torch.allclose(network(inputs)[:, others], model.target(inputs)[:, others], atol=1e-3)
    assert (model.target(inputs)[:, 1] - inputs[:, 1]).abs().max() > 0.5


@torch.no_grad()
def test_a_feature_is_forgotten_by_a_model_of_superposition():
    model = perfect_decomposition([1.0, 0.7, 1.3], ties={"linear2": "linear1"}).model
    inputs = torch.rand(100, 3, generator=torch.Generator().manual_seed(3))
    network = edited(model, [Edit("linear1", 1), Edit("linear2", 1)])

    assert torch.allclose(network(inputs)[:, 1], torch.zeros(100), atol=1e-2)
    assert torch.allclose(network(inputs)[:, [0, 2]], model.target(inputs)[:, [0, 2]], atol=1e-3)


def test_one_matrix_that_is_taken_apart_twice_is_edited_through_one_site():
    model = perfect_decomposition([1.0, 0.7, 1.3]).model
    with pytest.raises(UsageError, match="'linear1' and 'linear2' are one matrix in memory, taken apart twice"):
        edited(model, [Edit("linear1", 1), Edit("linear2", 1)])
    network = edited(model, [Edit("linear2", 1)])
    assert torch.equal(network.linear1.weight, torch.diag(torch.tensor([1.0, 0.0, 1.3])))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([], "edit: nothing is to be edited; name a component, such as linear1:3"),
        ([Edit("upp", 0)], "edit: there is no site 'upp'; did you mean up"),
        ([Edit("up", 5)], "edit: there is no component up:5; the site has 5, the nearest are up:2, up:3, up:4"),
        ([Edit("up", -1)], "the nearest are up:0, up:1, up:2"),
        ([Edit("up", 1.5)], "edit: the component of 'up' must be a whole number, got 1.5"),
        ([Edit("up", 1, float("nan"))], "edit: factor must be a finite number, got nan"),
        ([Edit("up", 1, 1.0, ("down", 9))], "edit: there is no component down:9"),
        ([Edit("up", 1, 1.0, ("down", 1))], "edit: up:1 must be redirected towards a finite direction of 12 numbers"),
        ([Edit("up", 1, 1.0, torch.zeros(12))], "that are not all 0, got shape [12]"),
        ([Edit("up", 1), Edit("up", 1, 2.0)], "edit: up:1 and up:1 are one component, and are to become two"),
    ],
)
def test_edits_that_cannot_be_made_are_refused(edits, message):
    with pytest.raises(UsageError) as refused:
        edited(decomposed("pooled head"), edits)
    assert message in str(refused.value)


def test_the_older_method_has_no_direction_to_turn():
    model = AttributedModel(network("pooled head"), ["up"], n_components=3)
    with pytest.raises(UsageError, match="redirects components of rank one"):
        edited(model, [Edit("up", 1, 1.0, torch.ones(12))])


class TiedByMemory(nn.Module):
    """Two parameters whose memory is one, which a copy does not keep."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.b.weight.data = self.a.weight.data

    def forward(self, x):
        return self.b(self.a(x))


def test_a_copy_that_loses_a_tie_is_refused():
    model = DecomposedModel(TiedByMemory(), {"a": 3})
    with pytest.raises(UsageError, match="a copy of TiedByMemory no longer ties the weights"):
        edited(model, [Edit("a", 0)])


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 5, "vdim": 3}])
def test_unfused_weights_go_back_under_their_names(options):
    fused = nn.MultiheadAttention(8, 2, **options)
    plain = Unfused(nn.ModuleDict({"attention": fused}))
    state = plain.original_state()

    wanted = {f"attention.{name}": tensor for name, tensor in fused.state_dict().items()}
    assert set(state) == set(wanted)
    assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())


@torch.no_grad()
def test_an_edit_of_an_unfused_network_loads_into_the_fused_one(tmp_path):
    model, batch = randomised(decomposed("transformer encoder")), example("transformer encoder")
    changed = edited(model, removals(model)[0])
    save_edited(changed, tmp_path / "edited")
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    fused = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    LoadedWeights(str(tmp_path / "edited" / "model.safetensors")).prepare(fused.eval())

    assert torch.allclose(fused(batch), changed(batch), atol=1e-4)
    assert not torch.allclose(fused(batch), model.target(batch), atol=1e-2)
