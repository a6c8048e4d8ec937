"""Under ``bf16-mixed`` products are rounded to bfloat16; parameters, delta, gates, penalties and distances are not."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from spd_lightning import StochasticDecomposition
from spd_lightning.functional import WeightedBatch, distance, faithfulness
from spd_lightning.losses import (
    ContributionSparsity,
    Faithfulness,
    FrequencyMinimality,
    ImportanceCovariance,
    ImportanceMinimality,
    Noise,
    RankPenalty,
    Reconstruction,
    Step,
)
from spd_lightning.methods.optimization import Warmup
from spd_lightning.methods.speed import Speed
from spd_lightning.model import FastForm, PerSite, PlainForm, SharedMLP
from spd_lightning.targets import ResidualMLP
from tests.methods.tiny import features, fit, toy, toy_target

CPU = torch.device("cpu")
BFLOAT_EPS = 2.0**-8
SPEEDS = {"plain": Speed(step="plain"), "fast": Speed(), "exact gates": Speed(table_nodes=0)}


def _losses():
    return {
        "faithfulness": Faithfulness(),
        "stochastic": Reconstruction(),
        "layerwise": Reconstruction(routing="layerwise", distance="kl"),
        "adversary": Reconstruction(sources="adversarial"),
        "importance": ImportanceMinimality(p=0.9),
        "frequency": FrequencyMinimality(),
        "contributions": ContributionSparsity(),
        "covariance": ImportanceCovariance(),
        "rank": RankPenalty(),
    }


def _toy(speed, **options):
    return StochasticDecomposition(toy_target(), {"linear*": 7}, losses=_losses(), speed=speed, **options)


def _residual(speed, **options):
    target = ResidualMLP(n_features=6, n_layers=2, d_mlp=8, d_embed=12)
    return StochasticDecomposition(target, {"layers.*.mlp_*": 9}, losses=_losses(), speed=speed, **options)


MODULES = {
    "toy": (_toy, 5),
    "residual": (_residual, 6),
    "shared gates": (
        lambda speed: _toy(speed, importance=partial(PerSite, function=partial(SharedMLP, hidden=[8]))),
        5,
    ),
}


def _batch(width, weighted):
    x = torch.rand(64, width, generator=torch.Generator().manual_seed(0))
    return WeightedBatch(x, torch.linspace(1, 2, 64) / torch.linspace(1, 2, 64).sum()) if weighted else x


def _objective(module, batch, enabled):
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        total, terms = module.objective(batch, Noise(("precision", 0), CPU), 0.5)
    total.backward()
    gradients = {name: p.grad for name, p in module.model.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    return terms, gradients


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("kind", MODULES)
def test_losses_are_those_of_full_precision_up_to_rounded_products(kind, speed, weighted):
    make, width = MODULES[kind]
    module, batch = make(SPEEDS[speed]), _batch(width, weighted)

    exact, _ = _objective(module, batch, enabled=False)
    mixed, gradients = _objective(module, batch, enabled=True)

    assert torch.equal(mixed["faithfulness"], exact["faithfulness"])  # the delta is never rounded
    for name, term in mixed.items():
        assert term.dtype is torch.float32
        # a chain of a few products, each off by one rounding to 8 bits; a covariance is what two of them differ by
        least = 1e-3 if name == "covariance" else 1e-5
        torch.testing.assert_close(term, exact[name], rtol=8 * BFLOAT_EPS, atol=least, msg=lambda s, n=name: f"{n} {s}")
    assert any(not torch.equal(mixed[name], exact[name]) for name in exact), "nothing was rounded at all"
    assert gradients
    assert all(gradient.dtype is torch.float32 for gradient in gradients.values())


def test_importances_are_computed_in_full_precision():
    module = _toy(Speed())
    for form in (PlainForm, FastForm):
        with torch.autocast("cpu", torch.bfloat16):
            step = Step.seen(form(module.model, _batch(5, False)), Noise(("gates", 0), CPU))
        for importance in step.importance.values():
            assert {part.dtype for part in importance} == {torch.float32}
            assert not torch.equal(importance.logits, importance.logits.bfloat16().float())


def test_a_small_delta_is_not_rounded_away():
    module = _toy(Speed())
    parts = module.model.components["linear1"]
    with torch.no_grad():  # the shortest V that explains W exactly
        parts.V.copy_(parts.site.weight().T @ torch.linalg.pinv(parts.U))
    exact = faithfulness([parts.delta()])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = faithfulness([parts.delta()])

    assert exact < 1e-12
    assert torch.equal(mixed, exact)


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_distances_of_rounded_outputs_are_computed_in_full_precision(kind):
    prediction, target = (torch.randn(9, 4).bfloat16() for _ in range(2))
    weights = torch.full((9,), 1 / 9)
    with torch.autocast("cpu", torch.bfloat16):
        for some in (None, weights):
            found = distance(kind, prediction, target, some)
            torch.testing.assert_close(found, distance(kind, prediction.float(), target.float(), weights))


def test_training_keeps_parameters_and_optimiser_in_full_precision(tmp_path):
    module = toy(init="examples", warmup=Warmup(steps=3))
    trainer = fit(module, features(), tmp_path, max_steps=5, precision="bf16-mixed")

    moments = [entry for state in trainer.optimizers[0].state.values() for entry in state.values()]
    assert moments
    assert {tensor.dtype for tensor in [*module.model.parameters(), *moments]} == {torch.float32}


def test_sixteen_bits_on_the_cpu_is_answered_by_one_line(tmp_path):
    """Lightning takes ``bf16-mixed`` instead and says so."""
    code = "from lightning.pytorch import Trainer; print(Trainer(accelerator='cpu', precision='16-mixed').precision)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)

    assert ran.stdout.split() == ["bf16-mixed"]
    assert ran.stderr.count("AMP with fp16 is not supported on CPU. Using `precision='bf16-mixed'` instead.") == 1


@pytest.mark.reliability
def test_the_toy_model_is_recovered_under_mixed_precision(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    command = [sys.executable, "-m", "spd_lightning", "fit", "--config", "tms.yaml", "--trainer.accelerator", "cpu"]
    ran = subprocess.run(
        [*command, "--trainer.precision", "bf16-mixed"], cwd=tmp_path, capture_output=True, text=True, env=environment
    )

    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "Recovered: the known mechanisms of all 2 sites were found." in ran.stdout
