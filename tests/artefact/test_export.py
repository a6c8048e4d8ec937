"""The artefact: what was saved comes back, and nothing else does."""

import functools
import importlib
import json
import sys

import pytest
import torch
from torch import nn

from spd_lightning import (
    DecomposedModel,
    GateMLP,
    ImportanceFunction,
    Optimization,
    PerSite,
    PositionalCall,
    ResidualMLP,
    SharedMLP,
    Site,
    SiteFunction,
    SiteMask,
    SiteTransformer,
    TargetCall,
    ToyModelOfSuperposition,
    UsageError,
    VectorMLP,
)
from spd_lightning.artefact.export import load_decomposition, save_decomposition
from spd_lightning.files.describe import describe
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.model.call import Arguments


class OwnTarget(nn.Module):
    """A class that the package does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x):
        return self.body(x)


class OwnGate(SiteFunction):
    """A site's function that the package does not know."""

    def __init__(self, n_components, d_in, power=1):
        super().__init__(n_components, d_in)
        self.power, self.scale = power, nn.Parameter(torch.empty(n_components))

    def reset(self, generator):
        self.scale.data.fill_(1.0)

    def forward(self, inner, features):
        return inner**self.power * self.scale


class OwnImportance(ImportanceFunction):
    """An importance function of all sites that the package does not know."""

    def __init__(self, sites, shift=0.0):
        super().__init__(sites)
        self.shift, self.scale = shift, nn.Parameter(torch.empty(()))

    def reset(self, generator):
        self.scale.data.fill_(1.0)

    def forward(self, inner, features):
        total = sum(one.square().sum(-1, keepdim=True) for one in inner.values())
        return {call: self.scale * one * total + self.shift for call, one in inner.items()}


class OwnCall(TargetCall):
    """A call that the package does not know."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def arguments(self, batch):
        return Arguments((self.factor * batch,), {})


class OwnLayer(nn.Module):
    """A matrix kept in a way that the package does not know."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.kept = nn.Parameter(torch.empty(d_in, d_out, 1))

    def forward(self, x):
        return x @ self.kept[..., 0]


class OwnKind(Site):
    """A kind of site for it."""

    @classmethod
    def suits(cls, module):
        return isinstance(module, OwnLayer)

    def matrix(self):
        return self.module.kept[..., 0].T

    def read(self, site_input, matrix):
        return site_input @ matrix


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


GATE = functools.partial(PerSite, function=functools.partial(OwnGate, power=3))


def _own():
    return _random(DecomposedModel(OwnTarget(), {"body.0": 6, "body.2": 4}, OwnCall(0.5), GATE))


def _of_own_kind():
    target = nn.Sequential(OwnLayer(5, 4), nn.ReLU(), OwnLayer(4, 3))
    return _random(DecomposedModel(target, {"0": 6, "2": 4}, kinds=[OwnKind]))


def _everything(model, x):
    """Outputs and importances: what a reader of the artefact would compute."""
    importance = model.importance_of(x)
    full = {name: SiteMask(ci.lower, torch.full(x.shape[:-1], 0.5, dtype=x.dtype)) for name, ci in importance.items()}
    outputs = [model.target(x), model(x), model.masked(x, full).output]
    return [*outputs, *(tensor for ci in importance.values() for tensor in ci)]


def _same(left, right, x):
    assert left.state_dict().keys() == right.state_dict().keys()
    assert all(torch.equal(tensor, right.state_dict()[name]) for name, tensor in left.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(_everything(left, x), _everything(right, x), strict=True))


def _per_site(function, **options):
    return functools.partial(PerSite, function=functools.partial(function, **options))


def _gate(config):
    return config["importance"]["init_args"]["function"]["init_args"]


def _edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"importance": _per_site(GateMLP, hidden=[7, 3])},
        {"importance": _per_site(GateMLP, hidden=[5], even=True)},
        {"importance": _per_site(GateMLP, hidden=[])},
        {"importance": _per_site(SharedMLP, hidden=(9,))},
        {"importance": _per_site(VectorMLP, hidden=(4, 3))},
        {"importance": functools.partial(SiteTransformer, width=8, blocks=1, heads=2, causal=True)},
        {"importance": functools.partial(OwnImportance, shift=0.2)},
        {"call": PositionalCall(inputs=[0])},
        {"call": OwnCall(factor=2.0)},
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
        "vector",
        "transformer",
        "own importance",
        "positional",
        "own call",
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
    for part in ("importance_function", "call"):
        assert describe(getattr(restored, part)) == describe(getattr(model, part)), part
    assert not any(parameter.requires_grad for parameter in restored.target.parameters())


def test_tied_sites_still_share_their_numbers_after_loading(tmp_path):
    save_decomposition(_toy(ties={"linear2": "linear1"}, tied_updates="once"), tmp_path)
    components = load_decomposition(tmp_path).components

    with torch.no_grad():
        components["linear1"].V[0, 0] = 42.0

    assert components["linear2"].U[0, 0] == 42.0


def test_twins_are_still_kept_equal_after_loading(tmp_path):
    save_decomposition(_toy(ties={"linear2": "linear1"}, tied_updates="twice"), tmp_path)
    model = load_decomposition(tmp_path)
    assert [twin.source for twin in model.twins] == [model.components["linear1"]]
    optimizer, _ = Optimization(lr=0.1).build(model, 1)
    model.components["linear1"].V.grad = torch.ones(5, 6)

    optimizer.step()

    assert torch.equal(model.components["linear2"].U, model.components["linear1"].V.T)


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

    assert config["format"] == 2
    assert config["method"] == "spd"
    assert config["sites"] == {"linear1": {"C": 6, "d_in": 5, "d_out": 2}}
    assert config["target"]["init_args"]["n_features"] == 5
    assert config["target_included"] is True
    assert config["target_fingerprint"] == fingerprint(model.target)
    gate = {"class_path": "spd_lightning.GateMLP", "init_args": {"hidden": [16], "even": False}}
    assert config["importance"] == {"class_path": "spd_lightning.PerSite", "init_args": {"function": gate}}
    assert config["call"] == {"class_path": "spd_lightning.AutomaticCall", "init_args": {}}
    assert config["kinds"] == []


def test_classes_of_ones_own_are_found_where_they_are_imported(tmp_path):
    for name, model in {"own": _own(), "kind": _of_own_kind()}.items():
        save_decomposition(model, tmp_path / name)

    own, x = load_decomposition(tmp_path / "own"), torch.rand(2, 3, 5)

    _same(_own(), own, x)
    assert own.importance_function.functions["body.0"].power == 3
    assert own.call.factor == 0.5
    target = nn.Sequential(OwnLayer(5, 4), nn.ReLU(), OwnLayer(4, 3))
    _same(_of_own_kind(), load_decomposition(tmp_path / "kind", target), x)


def test_classes_of_ones_own_that_are_not_imported_are_handed_in(tmp_path, monkeypatch):
    model = _own()
    save_decomposition(model, tmp_path)
    given = {"target": OwnTarget(), "importance": GATE, "call": OwnCall(0.5)}
    names = {
        "target": ("target", "OwnTarget"),
        "importance": ("importance.function", "OwnGate"),
        "call": ("call", "OwnCall"),
    }
    for _, name in names.values():
        monkeypatch.setattr(sys.modules[__name__], name, None)  # as in a session that has not imported it

    for missing, (place, name) in names.items():
        rest = {argument: value for argument, value in given.items() if argument != missing}
        told = rf"^config\.json: {place} is '{__name__}\.{name}', which is no imported \w+; if you trust"
        with pytest.raises(UsageError, match=told) as refused:
            load_decomposition(tmp_path, **rest)
        assert "import it first or pass import_classes=True; or pass an object in its place" in str(refused.value)

    _same(model, DecomposedModel.from_pretrained(tmp_path, **given), torch.rand(2, 3, 5))


def test_a_kind_of_ones_own_that_is_not_imported_is_refused(tmp_path, monkeypatch):
    save_decomposition(_of_own_kind(), tmp_path)
    target = nn.Sequential(OwnLayer(5, 4), nn.ReLU(), OwnLayer(4, 3))
    monkeypatch.setattr(sys.modules[__name__], "OwnKind", None)

    with pytest.raises(
        UsageError, match=r"kinds is '.*\.OwnKind', which is no imported Site; if you trust the file, import"
    ):
        load_decomposition(tmp_path, target)


OWN_FILE = """
from torch import nn


class Found(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x)
"""


def test_classes_are_imported_if_the_caller_asks(tmp_path, monkeypatch):
    (tmp_path / "found_in_a_file.py").write_text(OWN_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = DecomposedModel(importlib.import_module("found_in_a_file").Found(), {"fc": 4})
    model.save_pretrained(tmp_path / "saved")
    monkeypatch.delitem(sys.modules, "found_in_a_file")

    with pytest.raises(UsageError, match="which is no imported Module"):
        DecomposedModel.from_pretrained(tmp_path / "saved")
    restored = DecomposedModel.from_pretrained(tmp_path / "saved", import_classes=True)

    x = torch.rand(5, 3)
    assert torch.equal(restored(x), model(x))
    monkeypatch.delitem(sys.modules, "found_in_a_file")
    (tmp_path / "found_in_a_file.py").unlink()
    with pytest.raises(UsageError, match="'found_in_a_file' cannot be imported"):
        DecomposedModel.from_pretrained(tmp_path / "saved", import_classes=True)


def test_another_network_than_the_decomposed_one_is_refused(tmp_path):
    save_decomposition(_own(), tmp_path)

    with pytest.raises(UsageError, match=r"pattern 'body\.0' matches no module"):
        load_decomposition(tmp_path, ToyModelOfSuperposition(5, 2))
    wider = OwnTarget()
    wider.body[2] = nn.Linear(4, 7)
    with pytest.raises(UsageError, match=r"has another shape: .* in the file, .* in the target"):
        load_decomposition(tmp_path, wider)


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


OLDER = "is not of format 2, the one that this version reads; train again, or use the version .* that wrote it$"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged or no JSON file"),
        ("", "is damaged or no JSON file"),
        ("[1, 2]", "is not of format 2"),
        ("{}", "is not of format 2"),
        ('{"format": 1}', OLDER),
        ('{"format": 2}', "is damaged"),
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
        lambda config: config.pop("importance"),
        lambda config: config.pop("call"),
        lambda config: config.pop("kinds"),
        lambda config: config["importance"].update(init_args={"function": 3}),
        lambda config: config.update(target=None),
        lambda config: config.pop("target_included"),
    ],
    ids=[
        "argument",
        "sites",
        "site",
        "no leak",
        "no importance",
        "no call",
        "no kinds",
        "odd function",
        "no target",
        "no word on the target",
    ],
)
def test_a_config_with_holes_is_refused(change, tmp_path):
    save_decomposition(_toy(), tmp_path)
    _edit(tmp_path, change)

    with pytest.raises(UsageError, match=r"config\.json.* is damaged"):
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
        (lambda config: _gate(config).update(hidden=[4]), r"functions\.linear1.* has another shape"),
        (lambda config: _gate(config).update(hidden=[16, 16]), "which the target needs|another shape"),
        (lambda config: config["sites"].pop("linear2"), r"linear2.* which the target does not have"),
        (lambda config: config["sites"]["linear1"].update(C=0), "C must be at least 1, got 0"),
    ],
    ids=["count", "width", "gate", "depth", "site", "zero"],
)
def test_a_config_that_was_edited_by_hand_is_refused(change, message, tmp_path):
    save_decomposition(_toy(), tmp_path)
    _edit(tmp_path, change)

    with pytest.raises(UsageError, match=message):
        load_decomposition(tmp_path)


@pytest.mark.parametrize("entry", ["target", "importance", "importance.function", "call", "kinds"])
@pytest.mark.parametrize("class_path", ["trap_in_the_path.Trap", "os.system", "torch.nn.Linear"])
def test_a_class_that_is_named_in_the_config_is_not_imported(entry, class_path, tmp_path, monkeypatch):
    mark = tmp_path / "sprung"
    (tmp_path / "trap_in_the_path.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\n\n\nclass Trap:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    save_decomposition(_toy(), tmp_path / "artefact")

    def named(config):
        first, _, function = entry.partition(".")
        if entry == "kinds":
            config["kinds"] = [class_path]
        elif function:
            config[first]["init_args"][function] = {"class_path": class_path}
        else:
            config[first]["class_path"] = class_path

    _edit(tmp_path / "artefact", named)

    # a class that is imported and no network, but no importance function either: its numbers do not fit
    refused = rf"config.json: {entry} is '{class_path}', which is no imported|is damaged|has another shape"
    with pytest.raises(UsageError, match=refused):
        load_decomposition(tmp_path / "artefact")

    assert not mark.exists()
    assert "trap_in_the_path" not in sys.modules
