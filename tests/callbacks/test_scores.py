"""Scores against what they must be for a decomposition set by hand."""

import math

import pytest
import torch

from spd_lightning import StochasticDecomposition, UsageError
from spd_lightning.callbacks import (
    AblationCheck,
    ComponentActivity,
    ComponentVectors,
    ImportanceHeatmaps,
    MechanismRecovery,
)
from tests.callbacks.perfect import GAIN, Rows, Unprobed, perfect_decomposition
from tests.methods.tiny import OwnNetwork


def _importances(rows):
    """Lower-leaky importances of both sites: the two read the same numbers."""
    return (GAIN * rows).clamp(0, 1)


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_activity_counts_components_per_example_and_overall(threshold, perfect, examples, run):
    scores = run(perfect, Rows(examples), ComponentActivity(threshold)).scores

    active = _importances(torch.cat(examples)) > threshold
    for site in ("linear1", "linear2"):
        assert scores[f"test/l0/{site}"] == pytest.approx(active.sum(1).float().mean().item())
        assert scores[f"test/alive/{site}"] == active.any(0).sum().item() == 3


def test_a_component_that_acts_once_is_alive(perfect, run):
    batches = [torch.zeros(4, 3), torch.tensor([[0.0, 0.5, 0.0]]), torch.zeros(2, 3)]

    scores = run(perfect, Rows(batches), ComponentActivity()).scores

    assert scores["test/alive/linear1"] == 1
    assert scores["test/l0/linear1"] == pytest.approx(1 / 7)


@pytest.mark.parametrize("use_delta", [True, False])
def test_every_regime_of_ablation_has_its_distance(use_delta, examples, run):
    module = perfect_decomposition([1.0, 1.0, 1.0], use_delta=use_delta)

    scores = run(module, Rows(examples), AblationCheck(rounding_threshold=0.6)).scores

    x = torch.cat(examples)
    ci = _importances(x)
    expected = {
        "unmasked": torch.zeros_like(x),
        "zero": x,
        "ci_masked": x - x * ci**2,  # masked in linear1 and again in linear2
        "rounded": x * (ci <= 0.6),
        "worst_case": x - x * ci**2,  # the components explain everything, so the worst is to ablate what is allowed
    }
    for name, error in expected.items():
        assert scores[f"test/ablation/{name}"] == pytest.approx(error.square().mean().item(), rel=1e-4, abs=1e-9), name
    assert 0 < scores["test/ablation/stochastic"] < scores["test/ablation/worst_case"]


def test_the_worst_case_lets_the_delta_component_go(run):
    # half of the weight is explained and the importances allow no ablation: only the delta's mask can hurt
    module = perfect_decomposition([1.0, 1.0, 1.0])
    with torch.no_grad():
        for name, parts in module.model.components.items():
            parts.U.mul_(0.5)
            module.model.importance_function.functions[name].weights[0].fill_(100.0)
    x = torch.full((4, 3), 0.8)

    scores = run(module, Rows([x]), AblationCheck()).scores

    assert scores["test/ablation/unmasked"] == pytest.approx((0.8 - 0.2) ** 2)
    assert scores["test/ablation/worst_case"] == pytest.approx((0.8 - 0.2) ** 2, rel=1e-4)
    assert 0 < scores["test/ablation/stochastic"] < scores["test/ablation/worst_case"]


def test_distances_can_be_divergences(perfect, examples, run):
    scores = run(perfect, Rows(examples), AblationCheck(distance="kl")).scores

    x = torch.cat(examples)
    own = torch.log_softmax(x, -1)
    expected = (own.exp() * (own - math.log(1 / 3))).sum(-1).mean().item()
    # batches are weighted by their size
    assert scores["test/ablation/zero"] == pytest.approx(expected, rel=1e-4)
    assert scores["test/ablation/unmasked"] == pytest.approx(0, abs=1e-6)


def test_a_perfect_decomposition_recovers_everything(perfect, examples, run):
    scores = run(perfect, Rows(examples), MechanismRecovery(chance_draws=20)).scores

    for site in ("linear1", "linear2"):
        recovery = {name: scores[f"test/recovery/{site}/{name}"] for name in ("mechanisms", "mmcs", "ml2r")}
        assert recovery == pytest.approx({"mechanisms": 3, "mmcs": 1, "ml2r": 1})
        assert scores[f"test/recovery/{site}/identity_contradictions_0.1"] == 0
        assert scores[f"test/recovery/{site}/identity_contradictions_0.2"] == 0
        assert 0.3 < scores[f"test/recovery/{site}/chance_mmcs"] < 0.95


def test_mistakes_are_counted_and_shrinkage_is_measured(perfect, examples, run):
    with torch.no_grad():
        perfect.model.components["linear1"].U.mul_(0.5)
        gate = perfect.model.importance_function.functions["linear1"]
        gate.biases[0][3] = 0.15  # the idle component acts a little, on all three probes
        gate.weights[0][0] = 0.0  # and the first one no longer

    scores = run(perfect, Rows(examples), MechanismRecovery(chance_draws=1)).scores

    assert scores["test/recovery/linear1/mmcs"] == pytest.approx(1)
    assert scores["test/recovery/linear1/ml2r"] == pytest.approx(0.5)
    # the idle component is matched to the first feature: too weak there, and a leak on the two others
    assert scores["test/recovery/linear1/identity_contradictions_0.1"] == 3
    assert scores["test/recovery/linear1/identity_contradictions_0.2"] == 1
    assert scores["test/recovery/linear2/ml2r"] == pytest.approx(1)


def test_only_represented_features_are_scored(run):
    module = perfect_decomposition([1.0, 1.0, 0.0, 1.0])
    with torch.no_grad():  # the component of the feature that is not represented never acts
        for name in ("linear1", "linear2"):
            module.model.importance_function.functions[name].weights[0][2] = 0.0

    scores = run(module, Rows([torch.rand(4, 4)], n_features=4), MechanismRecovery(chance_draws=1)).scores

    for site in ("linear1", "linear2"):
        recovery = {
            name: scores[f"test/recovery/{site}/{name}"]
            for name in ("mechanisms", "mmcs", "ml2r", "identity_contradictions_0.1")
        }
        assert recovery == pytest.approx({"mechanisms": 3, "mmcs": 1, "ml2r": 1, "identity_contradictions_0.1": 0})


def test_a_site_that_is_not_decomposed_is_not_scored(examples, run):
    module = StochasticDecomposition(perfect_decomposition([1.0] * 3).target, {"linear2": 3})

    scores = run(module, Rows(examples), MechanismRecovery(chance_draws=1)).scores

    assert {name.split("/")[2] for name in scores if "recovery" in name} == {"linear2"}


def test_validation_logs_under_its_own_name(perfect, examples, run):
    scores = run(perfect, Rows(examples), ComponentActivity(), verb="validate").scores

    assert {name for name in scores if "/" in name} == {
        "val/l0/linear1",
        "val/l0/linear2",
        "val/alive/linear1",
        "val/alive/linear2",
    }


def test_nothing_is_known_about_a_network_of_ones_own(examples, run):
    module = StochasticDecomposition(OwnNetwork(width=3), {"head": 3})

    with pytest.raises(
        UsageError, match="MechanismRecovery: nothing is known about a OwnNetwork; give it known_mechanisms"
    ):
        run(module, Rows(examples), MechanismRecovery())


@pytest.mark.parametrize("callback", [MechanismRecovery, ImportanceHeatmaps, ComponentVectors])
@pytest.mark.parametrize("verb", ["test", "validate"])
def test_data_without_probes_is_refused_by_what_needs_them(callback, verb, perfect, examples, run):
    with pytest.raises(UsageError, match=rf"{callback.__name__} needs a data module with a method probes\(magnitude\)"):
        run(perfect, Unprobed(examples), callback(), verb=verb)


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_the_worst_case_needs_gradients(verb, perfect, examples, run):
    with pytest.raises(UsageError, match=r"AblationCheck needs gradients.*set trainer.inference_mode: false"):
        run(perfect, Rows(examples), AblationCheck(), verb=verb, inference_mode=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ComponentActivity(-0.1), "threshold must be a finite number at least 0, got -0.1"),
        (lambda: MechanismRecovery(chance_draws=0), "chance_draws must be at least 1, got 0"),
        (lambda: AblationCheck(adversary_steps=0), "adversary_steps must be at least 1, got 0"),
        (lambda: AblationCheck(adversary_step_size=0.0), "adversary_step_size must be .* got 0.0"),
        (lambda: AblationCheck(every_n_validations=0), "every_n_validations must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
