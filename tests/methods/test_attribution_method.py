"""The baseline as a LightningModule: what training changes, what it keeps, what it refuses."""

import pytest
import torch

from spd_lightning import (
    AttributionDecomposition,
    Faithfulness,
    FrequencyMinimality,
    ImportanceMinimality,
    Minimality,
    Optimization,
    Reconstruction,
    ResidualMLP,
    Simplicity,
    StochasticDecomposition,
    UsageError,
)
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.functional import WeightedBatch
from spd_lightning.losses import HiddenActivations, Noise, Step
from spd_lightning.methods import repeat_step
from tests.methods.tiny import Batches, Probe, features, fit, toy, toy_target, trained_state

CPU = torch.device("cpu")
FAST = Optimization(lr=0.01)


def attribution(**options) -> AttributionDecomposition:
    settings = {"target": toy_target(), "sites": ["linear*"], "n_components": 6, "k": 0.8, "optimization": FAST}
    return AttributionDecomposition(**(settings | options))


def residual(**options):
    target = ResidualMLP(n_features=5, n_layers=1, d_mlp=3, d_embed=8)
    losses = {"m": Minimality(), "f": Faithfulness()}
    settings = {"target": target, "sites": ["layers.*.mlp_*"], "losses": losses, "optimization": Optimization(lr=0.1)}
    return attribution(**(settings | options))


def _noise():
    return Noise((0,), CPU)


def test_five_steps_move_every_parameter_and_leave_the_target(tmp_path):
    module = attribution()
    before, target = trained_state(module), fingerprint(module.target)
    fit(module, features(), tmp_path, max_steps=5)
    assert fingerprint(module.target) == target
    after = trained_state(module)
    assert sorted(before) == [f"model.components.linear{site}.{factor}" for site in (1, 2) for factor in "UV"]
    for name, tensor in before.items():
        assert not torch.equal(tensor, after[name]), name
        assert torch.isfinite(after[name]).all(), name


def test_every_term_falls_on_a_fixed_batch(tmp_path):
    losses = {"faithfulness": Faithfulness(), "minimality": Minimality(), "simplicity": Simplicity(0.01, p=0.9)}
    module, batch = attribution(losses=losses, k=2.0), torch.rand(64, 5)
    probe = Probe(lambda trainer, module, outputs, batch: {n: t.item() for n, t in outputs["terms"].items()})
    fit(module, Batches(*[batch] * 300), tmp_path, max_steps=300, callbacks=[probe])
    for name in ("faithfulness", "minimality"):
        assert probe.seen[-1][name] < 0.2 * probe.seen[0][name], name


def test_read_vectors_of_unit_norm_stay_so_and_are_not_pushed_in_length(tmp_path):
    seen = {}

    def look(trainer, module, outputs, batch):
        parts = module.model.components["layers.0.mlp_in"]
        seen.setdefault("along", []).append((parts.V.grad * seen["before"]).sum(0).abs().max().item())
        seen.setdefault("size", []).append(parts.V.grad.abs().max().item())

    class Before(Probe):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            seen["before"] = pl_module.model.components["layers.0.mlp_in"].V.detach().clone()
            seen.setdefault("norms", []).append(seen["before"].norm(dim=0))

    module = residual(unit_norm=True, k=2.0)
    fit(module, features(), tmp_path, max_steps=4, callbacks=[Before(look)])
    for norms in seen["norms"]:
        torch.testing.assert_close(norms, torch.ones_like(norms))
    assert max(seen["along"]) < 1e-6 * max(seen["size"])
    assert min(seen["size"]) > 0


def test_without_unit_norm_lengths_are_free(tmp_path):
    module = residual()
    fit(module, features(), tmp_path, max_steps=4)
    norms = module.model.components["layers.0.mlp_in"].V.norm(dim=0)
    assert (norms - 1).abs().max() > 0.05


def test_empty_rows_merged_into_one_give_the_same_step():
    data = features(batch_size=64, feature_probability=0.05)
    data._seed = lambda: 0
    merged = data.train_batch(0)
    assert isinstance(merged, WeightedBatch)
    whole = torch.cat([merged.x[:-1], torch.zeros(64 - len(merged.x) + 1, 5)])
    weights = torch.full((len(merged.x),), 1 / 64)
    weights[-1] = 1 - weights[:-1].sum()
    # the bias of the target's second layer is what an empty row is left with: nothing to attribute
    module = attribution(losses={"m": Minimality(), "s": Simplicity(p=0.9), "f": Faithfulness()})
    found = module.objective(WeightedBatch(merged.x, weights), _noise())
    expected = module.objective(whole, _noise())
    for name, term in expected[1].items():
        torch.testing.assert_close(found[1][name], term, msg=name)


def test_evaluation_keeps_k_components_per_example_on_every_site():
    module = attribution(k=0.8)
    step = module.step(torch.rand(50, 5), _noise())
    assert list(step.importance) == ["linear1", "linear2"]
    assert step.importance["linear1"].lower.sum() == 40
    assert set(step.importance["linear1"].lower.unique().tolist()) == {0.0, 1.0}


def test_what_predict_returns_does_not_depend_on_the_rest_of_the_batch():
    module, x = attribution(), torch.rand(7, 5)
    together = module.predict_step(x, 0)["all sites"]
    torch.testing.assert_close(together[3], module.predict_step([x[3:4]], 0)["all sites"][0])
    torch.testing.assert_close(together.amax(1), torch.ones(7))


def test_a_checkpoint_gives_back_the_same_numbers(tmp_path):
    module = attribution(ties={"linear2": "linear1"}, rank=1)
    trainer = fit(module, features(), tmp_path, max_steps=3)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = AttributionDecomposition.load_from_checkpoint(tmp_path / "a.ckpt")
    assert {**again.hparams} == {**module.hparams}
    x = torch.rand(8, 5)
    assert torch.equal(again.model.attributed(x).scores, module.model.attributed(x).scores)


def test_a_resumed_run_ends_where_an_undisturbed_one_does(tmp_path):
    straight = attribution()
    fit(straight, features(), tmp_path, max_steps=6)
    first = attribution()
    stopped = fit(first, features(), tmp_path, max_steps=6, limit_train_batches=3, max_epochs=1)
    stopped.save_checkpoint(tmp_path / "b.ckpt")
    assert stopped.global_step == 3
    resumed = attribution()
    fit(resumed, features(), tmp_path, max_steps=6, ckpt_path=tmp_path / "b.ckpt")
    for name, tensor in trained_state(straight).items():
        assert torch.equal(tensor, trained_state(resumed)[name]), name


def test_a_checkpoint_of_the_other_method_is_refused(tmp_path):
    trainer = fit(attribution(), features(), tmp_path, max_steps=1)
    trainer.save_checkpoint(tmp_path / "apd.ckpt")
    with pytest.raises(UsageError, match=r"apd\.ckpt' was made by method 'apd', not 'spd'; use its config or class"):
        StochasticDecomposition.load_from_checkpoint(tmp_path / "apd.ckpt")
    with pytest.raises(UsageError, match="the checkpoint was made by method 'apd', not 'spd'"):
        fit(toy(), features(), tmp_path, max_steps=2, ckpt_path=tmp_path / "apd.ckpt")


@pytest.mark.parametrize("k", [0.0, -1.0, 6.5, float("nan")])
def test_k_must_lie_between_nothing_and_everything(k):
    with pytest.raises(UsageError, match=r"k must be above 0 and at most n_components \(6\), got"):
        attribution(k=k)


@pytest.mark.parametrize("data", [{"merge_empty": False}, {"feature_probability": 0.05}])
def test_a_budget_below_one_component_is_refused_before_the_first_step(data, tmp_path):
    with pytest.raises(UsageError, match=r"k: 0\.05 per example keeps no component of a batch of 1[68]; raise it"):
        fit(attribution(k=0.05), features(**data), tmp_path)


@pytest.mark.parametrize("loss", [ImportanceMinimality(), FrequencyMinimality(), Reconstruction(sources="binomial")])
def test_losses_of_gates_are_refused(loss):
    with pytest.raises(UsageError, match=f"'odd' is a {type(loss).__name__}, no part of AttributionDecomposition"):
        attribution(losses={"minimality": Minimality(), "odd": loss})


@pytest.mark.parametrize("loss", [Minimality(), Simplicity(), HiddenActivations()])
def test_losses_of_attributions_are_refused_by_the_other_method(loss):
    with pytest.raises(UsageError, match=f"'odd' is a {type(loss).__name__}, no part of StochasticDecomposition"):
        toy(losses={"faithfulness": Faithfulness(), "odd": loss})


def test_evaluation_without_gradients_is_refused_before_training(tmp_path):
    module = attribution()
    with pytest.raises(UsageError, match=r"attributions need gradients in evaluation; set trainer\.inference_mode"):
        fit(module, features(), tmp_path, inference_mode=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_fast_step_is_the_plain_one(weighted):
    losses = {"f": Faithfulness(), "m": Minimality(), "s": Simplicity(p=0.9), "h": HiddenActivations()}
    target = ResidualMLP(n_features=5, n_layers=2, d_mlp=3, d_embed=8)
    x = torch.rand(6, 5)
    batch = WeightedBatch(x, torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.5])) if weighted else x
    found = {}
    for fast in (True, False):
        module = residual(target=target, losses=losses, fast=fast, k=2.0)
        total, terms = module.objective(batch, _noise())
        total.backward()
        found[fast] = terms, [parameter.grad for parameter in module.model.components.parameters()]
    torch.testing.assert_close(found[True], found[False])


def test_a_step_that_is_not_finite_is_kept_and_can_be_repeated(tmp_path):
    batch = torch.rand(16, 5)
    module = attribution(losses={"minimality": Minimality(coefficient=1e38), "faithfulness": Faithfulness(1e38)})
    with pytest.raises(UsageError, match="became"):
        fit(module, Batches(batch * 1e20), tmp_path)
    (kept,) = (tmp_path / "non_finite").iterdir()
    repeated = repeat_step(kept, target=toy_target())
    assert type(repeated.module) is AttributionDecomposition
    assert torch.equal(repeated.batch, batch * 1e20)
    assert not repeated.loss.isfinite()


@pytest.mark.parametrize("fast", [True, False])
def test_half_precision_rounds_neither_what_is_kept_nor_the_terms(fast):
    losses = {"m": Minimality(), "s": Simplicity(p=0.9), "h": HiddenActivations(), "f": Faithfulness()}
    module = residual(losses=losses, k=2.0, fast=fast)
    weighted = WeightedBatch(torch.rand(6, 5), torch.full((6,), 1 / 6))
    expected = module.objective(weighted, _noise())[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step = module.chosen(Step.seen(module.form_of(weighted), _noise()))
        terms = module.objective(weighted, _noise())[1]
    again = module.chosen(Step.seen(module.form_of(weighted), _noise()))
    for call, importance in step.importance.items():
        assert importance.logits.dtype == torch.float32
        assert torch.equal(importance.lower, again.importance[call].lower)
        assert set(importance.lower.unique().tolist()) == {0.0, 1.0}
    for name, term in terms.items():
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, expected[name], rtol=0.1, atol=1e-4)
