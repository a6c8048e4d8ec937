"""The artefact: what was saved comes back, and nothing else does."""

import functools
import json
import sys

import pytest
import torch
from torch import nn

from spd_lightning import (
    CIFunction,
    DecomposedModel,
    GateMLP,
    ResidualMLP,
    SharedMLP,
    SiteMask,
    ToyModelOfSuperposition,
    UsageError,
)
from spd_lightning.artefact.export import load_decomposition, save_decomposition
from spd_lightning.files.fingerprint import fingerprint


class OwnTarget(nn.Module):
    """A class that the package does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x):
        return self.body(x)


class OwnGate(CIFunction):
    """A causal-importance function that the package does not know."""

    def __init__(self, n_components, d_in):
        super().__init__(n_components, d_in)
        self.scale = nn.Parameter(torch.empty(n_components))

    def reset(self, generator):
        self.scale.data.fill_(1.0)

    def forward(self, inner, site_input):
        return inner * self.scale


@torch.no_grad()
def _random(model):
    """No parameter is zero, none is what a fresh model would have."""
    generator = torch.Generator().manual_seed(21)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    for name, parts in model.components.items():
        parts.reset("random", torch.Generator().manual_seed(len(name)))  # tied sites share again
    return model


def _toy(**options):
    settings = {"sites": {"linear*": 6}} | options
    return _random(DecomposedModel(ToyModelOfSuperposition(5, 2), **settings))


def _own():
    return _random(DecomposedModel(OwnTarget(), {"body.0": 6, "body.2": 4}, OwnGate))


def _everything(model, x):
    """Outputs and importances: what a reader of the artefact would compute."""
    importance = model.causal_importance(model.clean(x).site_inputs)
    full = {name: SiteMask(ci.lower, torch.full(x.shape[:-1], 0.5, dtype=x.dtype)) for name, ci in importance.items()}
    outputs = [model.target(x), model(x), model.masked(x, full)]
    return [*outputs, *(tensor for ci in importance.values() for tensor in ci)]


def _same(left, right, x):
    assert left.state_dict().keys() == right.state_dict().keys()
    assert all(torch.equal(tensor, right.state_dict()[name]) for name, tensor in left.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(_everything(left, x), _everything(right, x), strict=True))


def _edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ci_fn": functools.partial(GateMLP, hidden=[7, 3])},
        {"ci_fn": functools.partial(GateMLP, hidden=[5], even=True)},
        {"ci_fn": functools.partial(GateMLP, hidden=[])},
        {"ci_fn": functools.partial(SharedMLP, hidden=(9,))},
        {"ties": {"linear2": "linear1"}, "tied_updates": "once"},
        {"ties": {"linear2": "linear1"}, "tied_updates": "twice"},
        {"use_delta": False, "leak": "linear", "init": "overlap", "seed": 4},
        {"sites": {"linear1": 3, "linear2": 8}},
        {"sites": {"linear2": 2}},
    ],
    ids=[
        "defaults",
        "deep gate",
        "even gate",
        "affine gate",
        "shared",
        "tied once",
        "tied twice",
        "paper",
        "counts",
        "one site",
    ],
)
def test_what_was_saved_comes_back(options, tmp_path):
    model = _toy(**options)
    save_decomposition(model, tmp_path)
    torch.manual_seed(99)

    restored = DecomposedModel.from_pretrained(tmp_path)

    _same(model, restored, torch.rand(3, 4, 5))
    for name in ("leak", "use_delta", "init", "ties", "tied_updates", "seed"):
        assert getattr(restored, name) == getattr(model, name), name
    assert restored.describe_ci_fn() == model.describe_ci_fn()
    assert not any(parameter.requires_grad for parameter in restored.target.parameters())


def test_tied_sites_still_share_their_numbers_after_loading(tmp_path):
    save_decomposition(_toy(ties={"linear2": "linear1"}, tied_updates="twice"), tmp_path)
    components = load_decomposition(tmp_path).components

    with torch.no_grad():
        components["linear1"].V[0, 0] = 42.0

    assert components["linear2"].U[0, 0] == 42.0


def test_double_precision_comes_back_as_such(tmp_path):
    model = _toy().double()
    save_decomposition(model, tmp_path)

    _same(model, load_decomposition(tmp_path), torch.rand(3, 5, dtype=torch.float64))


def test_the_targets_options_come_back(tmp_path):
    target = ToyModelOfSuperposition(5, 2, n_identity_layers=2, tied=False, zero_bias=True)
    model = _random(DecomposedModel(target, {"*.0": 3, "linear2": 4}))
    save_decomposition(model, tmp_path)

    restored = load_decomposition(tmp_path)

    _same(model, restored, torch.rand(3, 5))
    assert restored.target.tied is False
    assert restored.target.known_mechanisms() == target.known_mechanisms()


def test_a_residual_mlp_comes_back_with_its_embedding(tmp_path):
    target = ResidualMLP(5, n_layers=2, d_mlp=3, d_embed=7, embedding_seed=4)
    with torch.no_grad():
        target.embedding.mul_(2)  # not what the seed draws: it must come from the file
    model = _random(DecomposedModel(target, {"layers.*.mlp_in": 6, "layers.*.mlp_out": 4}))
    save_decomposition(model, tmp_path)

    restored = DecomposedModel.from_pretrained(tmp_path)

    _same(model, restored, torch.rand(3, 5))
    assert isinstance(restored.target, ResidualMLP)
    assert (restored.target.n_layers, restored.target.embedding_seed) == (2, 4)
    assert restored.target.known_mechanisms() == target.known_mechanisms()


def test_a_saved_artefact_is_replaced(tmp_path):
    save_decomposition(_toy(), tmp_path)
    model = _toy(sites={"linear1": 2}, seed=3)

    save_decomposition(model, tmp_path)

    _same(model, load_decomposition(tmp_path), torch.rand(3, 5))
    assert {path.name for path in tmp_path.iterdir()} == {"components.safetensors", "config.json"}


def test_the_config_says_what_it_describes(tmp_path):
    model = _toy(sites={"linear1": 6})
    save_decomposition(model, tmp_path)

    config = json.loads((tmp_path / "config.json").read_text())

    assert config["format"] == 1
    assert config["sites"] == {"linear1": {"C": 6, "d_in": 5, "d_out": 2}}
    assert config["target"]["init_args"]["n_features"] == 5
    assert config["target_included"] is True
    assert config["target_fingerprint"] == fingerprint(model.target)
    assert config["ci_fn"] == {"class_path": "spd_lightning.GateMLP", "init_args": {"hidden": [16], "even": False}}


def test_classes_of_ones_own_are_handed_in(tmp_path):
    model = _own()
    save_decomposition(model, tmp_path)

    with pytest.raises(UsageError, match=r"the target is a .*OwnTarget, which is not built in; pass target=\.\.\."):
        load_decomposition(tmp_path)
    with pytest.raises(UsageError, match=r"the ci_fn is a .*OwnGate, which is not built in; pass ci_fn=\.\.\."):
        load_decomposition(tmp_path, target=OwnTarget())

    _same(model, DecomposedModel.from_pretrained(tmp_path, OwnTarget(), OwnGate), torch.rand(2, 3, 5))


def test_another_network_than_the_decomposed_one_is_refused(tmp_path):
    save_decomposition(_own(), tmp_path)

    with pytest.raises(UsageError, match=r"pattern 'body\.0' matches no module"):
        load_decomposition(tmp_path, ToyModelOfSuperposition(5, 2), OwnGate)
    wider = OwnTarget()
    wider.body[2] = nn.Linear(4, 7)
    with pytest.raises(UsageError, match=r"has another shape: .* in the file, .* in the target"):
        load_decomposition(tmp_path, wider, OwnGate)


def test_a_target_that_is_left_out_must_be_handed_in_and_be_the_same(tmp_path):
    model = _toy()
    save_decomposition(model, tmp_path, include_target=False)
    same, other = ToyModelOfSuperposition(5, 2), ToyModelOfSuperposition(5, 2)
    same.load_state_dict(model.target.state_dict())
    other.load_state_dict(model.target.state_dict())
    with torch.no_grad():
        other.linear2.bias[0] += 1e-3

    _same(model, load_decomposition(tmp_path, target=same), torch.rand(3, 5))
    for network in (other, None):
        with pytest.raises(UsageError, match="its weights are not the ones that were decomposed"):
            load_decomposition(tmp_path, target=network)


@pytest.mark.parametrize("name", ["components.safetensors", "config.json"])
def test_a_missing_file_is_named(name, tmp_path):
    save_decomposition(_toy(), tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(UsageError, match=f"{name}' does not exist"):
        load_decomposition(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged or no JSON file"),
        ("", "is damaged or no JSON file"),
        ("[1, 2]", "is not of format 1"),
        ("{}", "is not of format 1"),
        ('{"format": 2}', "is not of format 1"),
        ('{"format": 1}', "is damaged"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused(content, message, tmp_path):
    save_decomposition(_toy(), tmp_path)
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(UsageError, match=f"config.json' {message}"):
        load_decomposition(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["target"]["init_args"].update(surprise=1),
        lambda config: config.update(sites=["linear1"]),
        lambda config: config["sites"].update(linear1={}),
        lambda config: config.pop("leak"),
        lambda config: config.pop("ci_fn"),
        lambda config: config.update(target=None),
        lambda config: config.pop("target_included"),
    ],
    ids=["argument", "sites", "site", "no leak", "no ci_fn", "no target", "no word on the target"],
)
def test_a_config_with_holes_is_refused(change, tmp_path):
    save_decomposition(_toy(), tmp_path)
    _edit(tmp_path, change)

    with pytest.raises(UsageError, match=r"config\.json' is damaged"):
        load_decomposition(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 200, -4])
def test_truncated_tensors_are_refused(kept, tmp_path):
    save_decomposition(_toy(), tmp_path)
    path = tmp_path / "components.safetensors"
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(UsageError, match=r"components.safetensors' is damaged or not a safetensors file"):
        load_decomposition(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["sites"]["linear1"].update(C=7), "components.linear1.V' has another shape"),
        (lambda config: config["target"]["init_args"].update(n_features=6), "target.linear1.weight' has another shape"),
        (lambda config: config["ci_fn"]["init_args"].update(hidden=[4]), "ci_fns.linear1.* has another shape"),
        (lambda config: config["ci_fn"]["init_args"].update(hidden=[16, 16]), "which the target needs|another shape"),
        (lambda config: config["sites"].pop("linear2"), "'ci_fns.linear2.* which the target does not have|'components"),
        (lambda config: config["sites"]["linear1"].update(C=0), "C must be at least 1, got 0"),
    ],
    ids=["count", "width", "gate", "depth", "site", "zero"],
)
def test_a_config_that_was_edited_by_hand_is_refused(change, message, tmp_path):
    save_decomposition(_toy(), tmp_path)
    _edit(tmp_path, change)

    with pytest.raises(UsageError, match=message):
        load_decomposition(tmp_path)


@pytest.mark.parametrize("entry", ["target", "ci_fn"])
@pytest.mark.parametrize("class_path", ["trap_in_the_path.Trap", "os.system", "torch.nn.Linear"])
def test_a_class_that_is_named_in_the_config_is_not_imported(entry, class_path, tmp_path, monkeypatch):
    mark = tmp_path / "sprung"
    (tmp_path / "trap_in_the_path.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\n\n\nclass Trap:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    save_decomposition(_toy(), tmp_path / "artefact")
    _edit(tmp_path / "artefact", lambda config: config[entry].update(class_path=class_path))

    with pytest.raises(UsageError, match=f"the {entry} is a {class_path}, which is not built in"):
        load_decomposition(tmp_path / "artefact")

    assert not mark.exists()
    assert "trap_in_the_path" not in sys.modules
