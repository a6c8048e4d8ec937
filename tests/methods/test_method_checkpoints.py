"""Checkpoints and hyper-parameters of a method."""

import functools
import json

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from spd_lightning import (
    DecomposedModel,
    Faithfulness,
    FeatureTraining,
    GateMLP,
    ImportanceFunction,
    ImportanceMinimality,
    Merging,
    Optimization,
    PerSite,
    PositionalCall,
    Reconstruction,
    SharedMLP,
    SiteFunction,
    SiteTransformer,
    StochasticDecomposition,
    ToyModelOfSuperposition,
    UsageError,
    VectorMLP,
    Warmup,
)
from spd_lightning.cli.resuming import read_weights
from spd_lightning.files.describe import describe
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.methods import checkpointed
from spd_lightning.model.call import Arguments
from spd_lightning.model.sites import LinearSite
from spd_lightning.runs.checkpoints import read_checkpoint
from tests.methods.tiny import OwnNetwork, expected_notices, features, fit, make_trainer, toy


@pytest.fixture(autouse=True)
def _private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))


class Scaled(SiteFunction):
    """A site's function of the user's own."""

    def __init__(self, n_components, d_in, scale: float = 1.0):
        super().__init__(n_components, d_in)
        self.scale, self.offset = scale, nn.Parameter(torch.zeros(n_components))

    def forward(self, inner, features):
        return self.scale * inner + self.offset

    def reset(self, generator):
        self.offset.data.zero_()


class Summed(ImportanceFunction):
    """An importance function of the user's own, which reads all sites."""

    def __init__(self, sites, scale: float = 1.0):
        super().__init__(sites)
        self.scale, self.offset = scale, nn.Parameter(torch.zeros(()))

    def forward(self, inner, features):
        total = sum(one.square().sum(-1, keepdim=True) for one in inner.values())
        return {call: self.scale * one.abs() / (1 + total) + self.offset for call, one in inner.items()}

    def reset(self, generator):
        self.offset.data.zero_()


class Doubled(PositionalCall):
    """A call of the user's own."""

    def __init__(self, factor: int = 2):
        super().__init__()
        self.factor = factor

    def arguments(self, batch):
        return Arguments((self.factor * super().arguments(batch).args[0],), {})


class Own(LinearSite):
    """A kind of site of the user's own."""


def _everything_set():
    return {
        "sites": {"linear1": 6, "linear2": 6},
        "losses": {
            "faithfulness": Faithfulness(2.0),
            "masks": Reconstruction(sources="binomial", routing="subset", samples=2, subset_probability=0.5),
            "worst": Reconstruction(sources="adversarial", adversary_steps=2, adversary_step_size=0.5),
            "importance": ImportanceMinimality(1e-2, p=2.0, p_final=0.9, anneal_end=0.5),
        },
        "importance": functools.partial(PerSite, function=functools.partial(GateMLP, hidden=[8])),
        "call": PositionalCall(inputs=[0]),
        "leak": "linear",
        "use_delta": False,
        "init": "overlap",
        "ties": {"linear2": "linear1"},
        "tied_updates": "twice",
        "optimization": Optimization(lr=0.02, importance_lr=0.01, schedule="half_cosine", importance_weight_decay=0.1),
        "warmup": Warmup(steps=2),
        "seed": 7,
    }


def _saved(module, folder, **options):
    path = folder / "saved.ckpt"
    trainer = fit(module, features(), folder, max_steps=2, **options)
    with expected_notices():
        trainer.save_checkpoint(path)
    return path


def _same_state(left, right):
    assert left.state_dict().keys() == right.state_dict().keys()
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name]), name


def _changed(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        _everything_set(),
        {"importance": functools.partial(PerSite, function=SharedMLP)},
        {"importance": functools.partial(PerSite, function=functools.partial(VectorMLP, hidden=(8, 4)))},
        {"importance": functools.partial(SiteTransformer, width=8, blocks=1, heads=2, causal=True)},
        {"importance": functools.partial(Summed, scale=0.5)},
        {"importance": lambda sites: PerSite(sites, functools.partial(Scaled, scale=0.5))},
        {"call": Doubled(factor=3)},
        {"kinds": [Own], "sites": {"linear1": 4}},
        {"target": OwnNetwork(width=5), "sites": {"blocks.*.0": 3}},
    ],
    ids=[
        "defaults",
        "everything",
        "shared",
        "vector with widths",
        "transformer",
        "own importance",
        "own function",
        "own call",
        "own kind",
        "own network",
    ],
)
def test_a_module_built_in_python_is_rebuilt_from_its_checkpoint(options, tmp_path):
    module = toy(**options)
    path = _saved(module, tmp_path)

    rebuilt = StochasticDecomposition.load_from_checkpoint(path, weights_only=True)

    _same_state(module, rebuilt)
    assert dict(rebuilt.hparams) == dict(module.hparams)
    for part in ("importance_function", "call"):
        assert describe(getattr(rebuilt.model, part)) == describe(getattr(module.model, part))
    assert [type(parts.site) for parts in rebuilt.model.components.values()] == [
        type(parts.site) for parts in module.model.components.values()
    ]
    assert rebuilt.optimization == module.optimization
    assert rebuilt.warmup == module.warmup
    assert {name: vars(loss)["coefficient"] for name, loss in rebuilt.losses.items()} == {
        name: vars(loss)["coefficient"] for name, loss in module.losses.items()
    }
    x = torch.rand(3, 5)
    assert torch.equal(rebuilt.model(x), module.model(x))


class Forgets(Scaled):
    """Keeps one of its arguments under another name."""

    def __init__(self, n_components, d_in, power: float = 1.0, **others):
        super().__init__(n_components, d_in, **others)
        self.exponent = power


class ForgetsToo(Faithfulness):
    def __init__(self, power: float = 1.0):
        super().__init__()
        self.exponent = power


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"importance": functools.partial(PerSite, function=Forgets)},
            "importance: Forgets must keep its argument 'power'",
        ),
        ({"losses": {"sum": ForgetsToo()}}, "losses: sum: ForgetsToo must keep its argument 'power' for checkpoints"),
    ],
)
def test_an_argument_that_a_checkpoint_would_lose_is_refused(options, told):
    with pytest.raises(UsageError, match=told):
        toy(**options)


def test_hyper_parameters_are_plain_data():
    module = toy(**_everything_set(), recipe=FeatureTraining(steps=3))

    plain = json.loads(json.dumps(dict(module.hparams)))

    assert plain == dict(module.hparams)
    assert plain["target"] == {
        "class_path": "spd_lightning.ToyModelOfSuperposition",
        "init_args": {"n_features": 5, "n_hidden": 2, "n_identity_layers": 0, "tied": True, "zero_bias": False},
    }
    gate = {"class_path": "spd_lightning.GateMLP", "init_args": {"hidden": [8], "even": False}}
    assert plain["importance"] == {"class_path": "spd_lightning.PerSite", "init_args": {"function": gate}}
    assert plain["call"] == {
        "class_path": "spd_lightning.PositionalCall",
        "init_args": {"inputs": [0], "weights": None, "output": None, "labels": None},
    }
    assert toy(kinds=[Own], sites={"linear1": 4}).hparams["kinds"] == [f"{__name__}.Own"]
    assert plain["recipe"]["class_path"] == "spd_lightning.FeatureTraining"
    assert plain["recipe"]["init_args"]["steps"] == 3
    assert plain["losses"]["importance"]["init_args"]["p_final"] == 0.9
    assert plain["optimization"]["clip_importance"] == 1.0
    assert plain["warmup"]["steps"] == 2


def test_a_rebuilt_module_keeps_its_trained_weights_through_a_test(tmp_path):
    recipe = FeatureTraining(steps=400, batch_size=128, lr=2e-2, feature_probability=0.3, weight_decay=0.0)
    module = toy(target=ToyModelOfSuperposition(3, 3), recipe=recipe)
    trainer = fit(module, features(n_features=3), tmp_path, max_steps=2)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    rebuilt = StochasticDecomposition.load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=True)

    with expected_notices():
        make_trainer(tmp_path).test(
            rebuilt, datamodule=features(n_features=3), ckpt_path=tmp_path / "saved.ckpt", weights_only=True
        )

    _same_state(module, rebuilt)


@pytest.mark.parametrize("save_target", [True, False])
def test_the_target_is_kept_or_left_out_as_asked(save_target, tmp_path):
    module = toy(save_target=save_target)
    path = _saved(module, tmp_path)

    content = torch.load(path, weights_only=True)

    held = [name for name in content["state_dict"] if name.startswith("model.target.")]
    assert bool(held) == save_target
    assert len(content["spd_lightning"]["target_fingerprint"]) == 32
    assert content["spd_lightning"]["format"] == 2


@pytest.mark.parametrize(("width", "kept"), [(3161, True), (3162, False)], ids=["up to ten million", "above"])
def test_a_target_of_many_parameters_is_left_out_unless_asked_for(width, kept):
    """``width**2 + width`` of them: a hair below ten million, and above."""
    target = nn.Sequential(nn.Linear(width, width, device="cpu"))
    module = StochasticDecomposition(target, {"0": 1})
    assert module.save_target == kept
    assert any(name.startswith("model.target.") for name in module.state_dict()) == kept
    assert StochasticDecomposition(target, {"0": 1}, save_target=not kept).save_target != kept


def test_the_target_is_hashed_once_however_often_a_checkpoint_is_written(tmp_path, monkeypatch):
    hashed = []
    monkeypatch.setattr(checkpointed, "fingerprint", lambda network: hashed.append(network) or fingerprint(network))

    class SaveEveryStep(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.save_checkpoint(tmp_path / "every.ckpt")

    module = toy()
    fit(module, features(), tmp_path, max_steps=5, callbacks=[SaveEveryStep()])

    assert hashed == [module.target]
    assert torch.load(tmp_path / "every.ckpt", weights_only=True)["global_step"] == 5


def test_a_module_that_took_over_another_target_says_so(tmp_path):
    path, other = _saved(toy(), tmp_path), toy(target=_another_target())
    assert other.target_fingerprint != toy().target_fingerprint
    fit(other, features(), tmp_path, max_steps=1).save_checkpoint(tmp_path / "own.ckpt")

    with expected_notices():
        trainer = make_trainer(tmp_path)
        trainer.test(other, datamodule=features(), ckpt_path=path, weights_only=True)

    assert other.target_fingerprint == fingerprint(other.target) == toy().target_fingerprint


@pytest.mark.parametrize("save_target", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ties": {"linear2": "linear1"}, "tied_updates": "twice"},
        {"init": "examples", "warmup": Warmup(3)},
        {"merging": Merging(start=0.1, every=1, unused=0.3)},
    ],
    ids=["untied", "twice", "examples", "merging"],
)
def test_training_goes_on_as_if_it_had_never_stopped(options, save_target, tmp_path):
    straight, stopped, resumed = (toy(save_target=save_target, **options) for _ in range(3))
    schedule = {"max_steps": 6, "accumulate_grad_batches": 2}
    fit(straight, features(), tmp_path, **schedule)

    # stop by an epoch's length, not by a shorter max_steps: schedules span max_steps
    trainer = fit(stopped, features(), tmp_path, limit_train_batches=6, max_epochs=1, **schedule)
    assert trainer.global_step == 3
    trainer.save_checkpoint(tmp_path / "three.ckpt")

    fit(resumed, features(), tmp_path, ckpt_path=tmp_path / "three.ckpt", **schedule)

    _same_state(straight, resumed)
    assert torch.equal(straight.last_use.steps, resumed.last_use.steps)
    assert ("merging" in options) == bool(straight.last_use.steps.any())


def _remove_stamp(content):
    del content["spd_lightning"]


def _other_format(content):
    content["spd_lightning"]["format"] = 1


def _no_format(content):
    content["spd_lightning"]["format"] = True


def _other_shape(content):
    content["state_dict"]["model.components.linear1.V"] = torch.zeros(5, 9)


def _missing(content):
    del content["state_dict"]["model.components.linear1.V"]


def _unknown(content):
    content["state_dict"]["model.components.linear7.V"] = torch.zeros(2)


OLDER = "is of format 1, this version reads format 2; train again, or use the version of spd_lightning that wrote it$"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remove_stamp, r"was not written by spd_lightning \(format 2\)"),
        (_no_format, r"was not written by spd_lightning \(format 2\)"),
        (_other_format, OLDER),
        (_other_shape, r"'model.components.linear1.V' has another shape: \[5, 9\] in the checkpoint, \[5, 6\]"),
        (_missing, "name different parameters: 'model.components.linear1.V' is in one alone"),
        (_unknown, "name different parameters: 'model.components.linear7.V' is in one alone"),
    ],
)
@pytest.mark.parametrize("save_target", [True, False])
def test_a_checkpoint_that_does_not_fit_is_refused(change, message, save_target, tmp_path):
    path = _changed(_saved(toy(save_target=save_target), tmp_path), change)
    module = toy(save_target=save_target)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    with pytest.raises(UsageError, match=message):
        fit(module, features(), tmp_path, ckpt_path=path)

    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def _as_format_1(content):
    """As the version before this one wrote it."""
    content["spd_lightning"]["format"] = 1
    importance, arguments = "model.importance_function.functions.", content["hyper_parameters"]
    arguments["ci_fn"] = arguments.pop("importance")["init_args"]["function"]
    for name in ("call", "kinds"):
        del arguments[name]
    for name in list(content["state_dict"]):
        if name.startswith(importance):
            content["state_dict"][f"model.ci_fns.{name.removeprefix(importance)}"] = content["state_dict"].pop(name)


@pytest.mark.parametrize(
    "read",
    [
        StochasticDecomposition.load_from_checkpoint,
        read_checkpoint,
        read_weights,
        lambda path: fit(toy(), features(), path.parent, ckpt_path=path),
    ],
    ids=["load_from_checkpoint", "read", "start from", "train on"],
)
def test_a_checkpoint_of_the_format_before_is_refused_in_one_line(read, tmp_path):
    path = _changed(_saved(toy(), tmp_path), _as_format_1)

    with pytest.raises(UsageError, match=f"^(checkpoint '.*saved.ckpt'|the checkpoint) {OLDER}") as refused:
        read(path)

    assert "\n" not in str(refused.value)


def _another_target():
    target = ToyModelOfSuperposition(5, 2)
    with torch.no_grad():
        target.linear1.weight.add_(1)
    return target


@pytest.mark.parametrize("save_target", [True, False])
def test_training_on_needs_the_same_target(save_target, tmp_path):
    path = _saved(toy(save_target=save_target), tmp_path)

    with pytest.raises(UsageError, match=r"belongs to another target \(fingerprint \w{8}, configured \w{8}\)"):
        fit(toy(target=_another_target(), save_target=save_target), features(), tmp_path, ckpt_path=path)


def test_a_test_takes_the_target_from_the_checkpoint(tmp_path):
    module, other = toy(), toy(target=_another_target())
    path = _saved(module, tmp_path)

    with expected_notices():
        make_trainer(tmp_path).test(other, datamodule=features(), ckpt_path=path, weights_only=True)

    _same_state(module, other)


def test_a_changed_weight_changes_the_start_of_components_at_setup():
    module = toy(init="overlap")
    with torch.no_grad():
        module.target.linear1.weight.mul_(2)

    module.setup("fit")

    fresh = DecomposedModel(module.target, {"linear*": 6}, init="overlap")
    assert torch.equal(module.model.components["linear1"].U, fresh.components["linear1"].U)
