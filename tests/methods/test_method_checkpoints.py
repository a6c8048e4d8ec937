"""Checkpoints and hyper-parameters of a method."""

import functools
import json

import pytest
import torch

from spd_lightning import (
    DecomposedModel,
    Faithfulness,
    FeatureTraining,
    GateMLP,
    ImportanceMinimality,
    Optimization,
    Reconstruction,
    SharedMLP,
    StochasticDecomposition,
    ToyModelOfSuperposition,
    UsageError,
    Warmup,
)
from tests.methods.tiny import OwnNetwork, expected_notices, features, fit, make_trainer, toy


@pytest.fixture(autouse=True)
def _private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))


def _everything_set():
    return {
        "sites": {"linear1": 6, "linear2": 6},
        "losses": {
            "faithfulness": Faithfulness(2.0),
            "masks": Reconstruction(sources="binomial", routing="subset", samples=2, subset_probability=0.5),
            "worst": Reconstruction(sources="adversarial", adversary_steps=2, adversary_step_size=0.5),
            "importance": ImportanceMinimality(1e-2, p=2.0, p_final=0.9, anneal_end=0.5),
        },
        "ci_fn": functools.partial(GateMLP, hidden=[8]),
        "leak": "linear",
        "use_delta": False,
        "init": "overlap",
        "ties": {"linear2": "linear1"},
        "tied_updates": "twice",
        "optimization": Optimization(lr=0.02, importance_lr=0.01, schedule="half_cosine", clip_importance=1.0),
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
        {"ci_fn": SharedMLP},
        {"ci_fn": functools.partial(SharedMLP, hidden=(8, 4))},
        {"target": OwnNetwork(width=5), "sites": {"blocks.*.0": 3}},
    ],
    ids=["defaults", "everything", "shared", "shared with widths", "own network"],
)
def test_a_module_built_in_python_is_rebuilt_from_its_checkpoint(options, tmp_path):
    module = toy(**options)
    path = _saved(module, tmp_path)

    rebuilt = StochasticDecomposition.load_from_checkpoint(path, weights_only=True)

    _same_state(module, rebuilt)
    assert dict(rebuilt.hparams) == dict(module.hparams)
    assert rebuilt.model.describe_ci_fn() == module.model.describe_ci_fn()
    assert rebuilt.optimization == module.optimization
    assert rebuilt.warmup == module.warmup
    assert {name: vars(loss)["coefficient"] for name, loss in rebuilt.losses.items()} == {
        name: vars(loss)["coefficient"] for name, loss in module.losses.items()
    }
    x = torch.rand(3, 5)
    assert torch.equal(rebuilt.model(x), module.model(x))


def test_hyper_parameters_are_plain_data():
    module = toy(**_everything_set(), recipe=FeatureTraining(steps=3))

    plain = json.loads(json.dumps(dict(module.hparams)))

    assert plain == dict(module.hparams)
    assert plain["target"] == {
        "class_path": "spd_lightning.ToyModelOfSuperposition",
        "init_args": {"n_features": 5, "n_hidden": 2, "n_identity_layers": 0, "tied": True, "zero_bias": False},
    }
    assert plain["ci_fn"] == {"class_path": "spd_lightning.GateMLP", "init_args": {"hidden": [8], "even": False}}
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
    assert content["spd_lightning"]["format"] == 1


@pytest.mark.parametrize("save_target", [True, False])
def test_training_goes_on_as_if_it_had_never_stopped(save_target, tmp_path):
    straight, stopped, resumed = (toy(save_target=save_target) for _ in range(3))
    schedule = {"max_steps": 6, "accumulate_grad_batches": 2}
    fit(straight, features(), tmp_path, **schedule)

    # stop by an epoch's length, not by a shorter max_steps: schedules span max_steps
    trainer = fit(stopped, features(), tmp_path, limit_train_batches=6, max_epochs=1, **schedule)
    assert trainer.global_step == 3
    trainer.save_checkpoint(tmp_path / "three.ckpt")

    fit(resumed, features(), tmp_path, ckpt_path=tmp_path / "three.ckpt", **schedule)

    _same_state(straight, resumed)


def _remove_stamp(content):
    del content["spd_lightning"]


def _other_format(content):
    content["spd_lightning"]["format"] = 2


def _other_shape(content):
    content["state_dict"]["model.components.linear1.V"] = torch.zeros(5, 9)


def _missing(content):
    del content["state_dict"]["model.components.linear1.V"]


def _unknown(content):
    content["state_dict"]["model.components.linear7.V"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remove_stamp, r"was not written by spd_lightning \(format 1\)"),
        (_other_format, r"was not written by spd_lightning \(format 1\)"),
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
