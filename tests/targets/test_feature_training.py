"""Training a toy target."""

import pytest
import torch
from torch import nn

from spd_lightning import FeatureTraining, ToyModelOfSuperposition, UsageError

EASY = {"steps": 400, "batch_size": 128, "lr": 2e-2, "feature_probability": 0.3, "weight_decay": 0.0}


def _few_steps(cache, name, monkeypatch, network=None, **options):
    """Weights after a few steps, from a cache of their own."""
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(cache / name))
    network = network or ToyModelOfSuperposition(3, 2, zero_bias=True)  # no output is dead at the start
    with pytest.warns(UserWarning, match="the trained target is flawed"):
        FeatureTraining(**({"steps": 5, "batch_size": 8, "feature_probability": 0.5} | options)).prepare(network)
    return network.state_dict()


def _same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_short_training_makes_a_target_without_flaws():
    target = ToyModelOfSuperposition(3, 3)
    assert target.flaws()

    FeatureTraining(**EASY).prepare(target)  # a flaw would be a warning, and a warning an error

    assert target.flaws() == []
    assert target.alive_features() == [0, 1, 2]
    assert torch.equal(target.linear2.weight, target.linear1.weight.T)


def test_identity_layers_are_not_trained():
    target = ToyModelOfSuperposition(3, 3, n_identity_layers=1).requires_grad_(False)

    FeatureTraining(**EASY).prepare(target)

    assert torch.equal(target.hidden_layers[0].weight, torch.eye(3))
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_one_seed_one_target(cache, monkeypatch):
    torch.manual_seed(1)
    first = _few_steps(cache, "a", monkeypatch, seed=4)
    torch.manual_seed(99)
    again = _few_steps(cache, "b", monkeypatch, seed=4)
    other = _few_steps(cache, "c", monkeypatch, seed=5)

    assert _same(first, again)
    assert not _same(first, other)


def test_training_draws_nothing_from_the_global_generator(cache, monkeypatch):
    network = ToyModelOfSuperposition(3, 2, zero_bias=True)
    torch.manual_seed(5)
    undisturbed = torch.rand(4)

    torch.manual_seed(5)
    _few_steps(cache, "a", monkeypatch, network)

    assert torch.equal(torch.rand(4), undisturbed)


def test_training_works_where_gradients_are_off(cache, monkeypatch):
    with torch.no_grad():
        off = _few_steps(cache, "a", monkeypatch)

    assert _same(off, _few_steps(cache, "b", monkeypatch))


@pytest.mark.parametrize(
    "changed",
    [
        {"lr": 1e-2},
        {"weight_decay": 0.5},
        {"schedule": "half_cosine"},
        {"feature_probability": 0.9},
        {"value_min": -1.0},
        {"value_max": 2.0},
        {"batch_size": 9},
        {"steps": 6},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_changes_the_result(changed, cache, monkeypatch):
    assert not _same(_few_steps(cache, "a", monkeypatch), _few_steps(cache, "b", monkeypatch, **changed))


def test_a_flawed_target_is_named_by_feature():
    with pytest.warns(UserWarning, match="flawed") as caught:
        FeatureTraining(steps=1, batch_size=4, seed=1).prepare(ToyModelOfSuperposition(2, 1, zero_bias=True))

    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    for index, message in enumerate(messages):
        assert message.startswith(f"the trained target is flawed, feature {index}: a one-hot input of 0.75 comes back")
        assert message.endswith("try another recipe seed")


def test_a_flawed_target_is_named_again_when_it_comes_from_the_cache():
    recipe = FeatureTraining(steps=1, batch_size=4)
    for _ in range(2):
        with pytest.warns(UserWarning, match="feature 0"):
            recipe.prepare(ToyModelOfSuperposition(1, 1))


def test_a_network_that_is_no_toy_is_refused(cache):
    with pytest.raises(UsageError, match="cannot train a Linear, which has no n_features") as refused:
        FeatureTraining().prepare(nn.Linear(2, 2))

    assert "LoadedWeights" in str(refused.value)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps and batch_size must be at least 1, got 0 and 1024"),
        ({"batch_size": 0}, "got 10000 and 0"),
        ({"feature_probability": 0.0}, r"feature_probability must lie in \(0, 1\], got 0.0"),
        ({"feature_probability": 1.5}, "got 1.5"),
        ({"lr": 0.0}, "lr must be a finite number above 0, got 0.0"),
        ({"lr": float("nan")}, "got nan"),
        ({"lr": float("inf")}, "got inf"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        FeatureTraining(**options)
