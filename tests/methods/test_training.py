"""What training changes, and what it must not."""

import math
import re
from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spd_lightning import (
    ConstrainedImportance,
    DecomposedModel,
    Faithfulness,
    ImportanceMinimality,
    InnerMLP,
    Merging,
    Optimization,
    PersistentAdversary,
    PerSite,
    Reconstruction,
    RelativeFaithfulness,
    SharedMLP,
    SiteTransformer,
    SmoothFrequency,
    StochasticDecomposition,
    UsageError,
    VectorMLP,
    Warmup,
)
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.functional import faithfulness
from spd_lightning.losses import Noise
from spd_lightning.methods.optimization import trained
from tests.methods.tiny import (
    Batches,
    OwnNetwork,
    Probe,
    expected_notices,
    features,
    fit,
    make_trainer,
    paper_losses,
    toy,
    trained_state,
)


def _unexplained(module):
    return faithfulness(parts.delta() for _, parts in module.model.components.items()).item()


def _terms(name):
    return Probe(lambda trainer, module, outputs, batch: outputs["terms"][name].item())


@pytest.mark.parametrize("merging", [Merging(), Merging(start=0.5, every=1)], ids=["", "merging"])
def test_five_steps_move_every_parameter_and_leave_the_target(merging, tmp_path, monkeypatch):
    looks, merge = [], Merging.merge
    monkeypatch.setattr(Merging, "merge", lambda *given: looks.append(given) or merge(*given))
    module = toy(merging=merging)
    before, target = trained_state(module), fingerprint(module.target)

    fit(module, features(), tmp_path, max_steps=5)

    assert fingerprint(module.target) == target
    assert len(looks) == (3 if merging.start < 1 else 0)
    after = trained_state(module)
    assert {name.split(".")[1] for name in before} == {"components", "importance_function"}
    for name, tensor in before.items():
        assert not torch.equal(tensor, after[name]), name
        assert torch.isfinite(after[name]).all(), name


def test_the_objective_falls_on_a_fixed_batch(tmp_path):
    torch.manual_seed(0)
    batch = torch.rand(16, 5)
    probe = Probe(lambda trainer, module, outputs, batch: outputs["loss"].item())

    fit(toy(optimization=Optimization(lr=1e-2)), Batches(*[batch] * 100), tmp_path, max_steps=100, callbacks=[probe])

    assert sum(probe.seen[-5:]) < 0.5 * sum(probe.seen[:5])


def test_the_objective_is_the_weighted_sum_of_its_terms(tmp_path):
    weights = {"a": 0.5, "b": 2.0, "c": 0.0}
    losses = {"a": Faithfulness(0.5), "b": Reconstruction(2.0), "c": ImportanceMinimality(0.0)}
    probe = Probe(lambda trainer, module, outputs, batch: outputs)

    fit(toy(losses=losses), features(), tmp_path, max_steps=1, callbacks=[probe])

    (outputs,) = probe.seen
    assert list(outputs["terms"]) == ["a", "b", "c"]
    expected = sum(weights[name] * term.item() for name, term in outputs["terms"].items())
    assert outputs["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert not any(term.requires_grad for term in outputs["terms"].values())


def test_a_moving_coefficient_weighs_each_step_anew(tmp_path):
    penalty = ImportanceMinimality(1e-1, coefficient_final=1e-3)
    probe = Probe(lambda trainer, module, outputs, batch: (outputs["loss"].item(), outputs["terms"]["a"].item()))

    fit(toy(losses={"a": penalty}), features(), tmp_path, max_steps=3, callbacks=[probe])

    assert [loss / term for loss, term in probe.seen] == pytest.approx([1e-1, 1e-2, 1e-3])


def test_a_term_without_weight_is_reported_and_changes_nothing(tmp_path):
    watched, plain = (
        toy(losses={"faithfulness": Faithfulness(), **more})
        for more in ({"watched": Reconstruction(coefficient=0.0)}, {})
    )
    probe = _terms("watched")

    fit(watched, features(), tmp_path, max_steps=3, callbacks=[probe])
    fit(plain, features(), tmp_path, max_steps=3)

    assert len(set(probe.seen)) == 3
    assert all(torch.equal(a, b) for a, b in zip(watched.model.parameters(), plain.model.parameters(), strict=True))


def test_an_objective_without_any_weight_is_refused():
    with pytest.raises(UsageError, match="at least one term must have a coefficient above 0"):
        toy(losses={"faithfulness": Faithfulness(0.0)})


def test_same_seed_same_training_whatever_the_global_generator_does(tmp_path):
    modules = []
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(state)
        modules.append(toy(seed=seed))
        fit(modules[-1], features(seed=0), tmp_path, max_steps=3)

    first, again, other = map(trained_state, modules)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]), name
        assert not torch.equal(tensor, other[name]), name


def test_accumulated_batches_see_their_own_noise(tmp_path):
    # the same data and the same parameters: only noise can differ
    probe = _terms("stochastic")

    fit(toy(), Batches(*[torch.ones(4, 5)] * 4), tmp_path, max_steps=2, accumulate_grad_batches=2, callbacks=[probe])

    assert len(set(probe.seen)) == 4
    again = _terms("stochastic")
    fit(toy(), Batches(*[torch.ones(4, 5)] * 4), tmp_path, max_steps=2, accumulate_grad_batches=2, callbacks=[again])
    assert again.seen == probe.seen


class Watching(ImportanceMinimality):
    """Keeps what it is told of every step."""

    def __init__(self):
        super().__init__(coefficient=3e-3)
        self.told = []

    def observe(self, terms, progress):
        self.told.append((terms["stochastic"].item(), progress))


def test_terms_are_told_once_a_step_what_all_its_batches_came_to(tmp_path):
    losses, probe = paper_losses() | {"importance": Watching()}, _terms("stochastic")
    batches = Batches(*torch.rand(6, 4, 5))

    fit(toy(losses=losses), batches, tmp_path, max_steps=3, accumulate_grad_batches=2, callbacks=[probe])

    means = [(first + second) / 2 for first, second in zip(probe.seen[::2], probe.seen[1::2], strict=True)]
    assert [told for told, _ in losses["importance"].told] == pytest.approx(means)
    assert [progress for _, progress in losses["importance"].told] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("as_batch", [tuple, list, lambda parts: parts[0]], ids=["tuple", "list", "tensor"])
def test_a_batch_begins_with_the_input(as_batch, tmp_path):
    x, label = torch.rand(4, 5), torch.full((4,), float("nan"))
    module, reference = toy(), toy()

    fit(module, Batches(*[as_batch([x, label])] * 2), tmp_path, max_steps=2)
    fit(reference, Batches(x, x), tmp_path, max_steps=2)

    for name, tensor in trained_state(reference).items():
        assert torch.equal(trained_state(module)[name], tensor), name


def test_a_data_loader_with_labels_will_do(tmp_path):
    module = toy()
    before = trained_state(module)
    loader = DataLoader(TensorDataset(torch.rand(8, 5), torch.zeros(8)), batch_size=4)

    fit(module, loader, tmp_path, max_steps=2)

    assert not torch.equal(trained_state(module)["model.components.linear1.V"], before["model.components.linear1.V"])


@pytest.mark.parametrize(
    "importance",
    [PerSite, partial(PerSite, function=SharedMLP), partial(SiteTransformer, width=8, blocks=1, heads=2)],
    ids=["gates", "shared", "transformer"],
)
def test_a_network_of_ones_own_with_positions_is_trained(importance, tmp_path):
    torch.manual_seed(4)
    network = OwnNetwork()
    output = network(torch.ones(2, 4))
    sites = {"blocks.*.0": 5, "blocks.*.2": 7, "head": 4}
    module = StochasticDecomposition(network, sites, importance=importance)
    before, target = trained_state(module), fingerprint(network)
    first, last = _unexplained(module), None

    fit(module, Batches(*torch.randn(30, 3, 6, 4)), tmp_path, max_steps=30)
    last = _unexplained(module)

    assert module.model.site_names == ["blocks.0.0", "blocks.0.2", "blocks.1.0", "blocks.1.2", "head"]
    assert fingerprint(network) == target
    assert torch.equal(network(torch.ones(2, 4)), output)
    assert all(not torch.equal(tensor, trained_state(module)[name]) for name, tensor in before.items())
    assert last < 0.97 * first


def test_a_network_that_keeps_positions_and_dropout_stays_in_eval_mode(tmp_path):
    target = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    probe = Probe(lambda trainer, module, outputs, batch: any(part.training for part in module.target.modules()))

    fit(toy(target=target, sites={"*[02]": 3}), Batches(*torch.rand(2, 4, 3)), tmp_path, max_steps=2, callbacks=[probe])

    assert probe.seen == [False, False]


def _quarter(t, last):
    return math.cos(math.pi / 2 * t / last)


def _half(t, last):
    return (1 + math.cos(math.pi * t / last)) / 2


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [("quarter_cosine", _quarter), ("half_cosine", _half), ("constant", lambda t, last: 1.0)],
)
def test_every_step_uses_the_scheduled_rate_of_its_group(schedule, factor, tmp_path):
    module = toy(optimization=Optimization(lr=0.01, importance_lr=0.002, schedule=schedule))
    used = []
    module.on_before_optimizer_step = lambda optimizer: used.append(
        {group["name"]: group["lr"] for group in optimizer.param_groups}
    )

    fit(module, features(), tmp_path, max_steps=5)

    assert [rates["components"] for rates in used] == pytest.approx([0.01 * factor(t, 4) for t in range(5)], abs=1e-9)
    assert [rates["importance"] for rates in used] == pytest.approx([0.002 * factor(t, 4) for t in range(5)], abs=1e-9)


def test_one_rate_for_both_groups_unless_told_otherwise():
    optimizer, _ = Optimization(lr=0.03).build(toy().model, 10)

    assert [group["lr"] for group in optimizer.param_groups] == [0.03, 0.03]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.0]


def test_only_matrices_of_the_importance_function_decay():
    """With no gradient, a step of AdamW is its decay alone."""
    model = toy().model
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer, _ = Optimization(lr=0.03, importance_lr=0.1, importance_weight_decay=0.5).build(model, 10)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()

    shrunk = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert shrunk == {name for name in before if name.startswith("importance_function") and "weights" in name}
    for name in shrunk:
        torch.testing.assert_close(model.get_parameter(name), before[name] * (1 - 0.1 * 0.5))


def test_a_site_may_be_named_after_a_bias():
    network = torch.nn.Sequential(OrderedDict(debias=torch.nn.Linear(3, 4), biases=torch.nn.Linear(4, 2)))
    for function in (partial(PerSite, function=InnerMLP), partial(PerSite, function=VectorMLP), SiteTransformer):
        model = DecomposedModel(network, {"*": 3}, importance=function)
        groups = Optimization(importance_weight_decay=0.5).build(model, 10)[0].param_groups
        decaying = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
        own = dict(model.importance_function.named_parameters())
        matrices = {name for name in own if re.search(r"\.weights?(\.\d+)?$", name)}
        assert {name for name, parameter in own.items() if id(parameter) in decaying} == matrices


def test_the_rate_rises_from_zero_and_ends_where_told(tmp_path):
    module, used = toy(optimization=Optimization(lr=0.01, warmup_fraction=0.4, final_fraction=0.25)), []
    module.on_before_optimizer_step = lambda optimizer: used.append(optimizer.param_groups[0]["lr"])

    fit(module, features(), tmp_path, max_steps=5)

    middle = 0.25 + 0.75 * math.cos(math.pi / 4)
    assert used == pytest.approx([0.0, 0.005, 0.01, 0.01 * middle, 0.0025])


def _gradients(folder, **options):
    options = {"clip_importance": None} | options
    norms = Probe(
        lambda trainer, module, outputs, batch: {
            group: torch.cat([p.grad.flatten() for p in trained(module.model, group)])
            for group in ("components", "importance")
        }
    )
    fit(toy(optimization=Optimization(**options)), features(), folder, max_steps=1, callbacks=[norms])
    return norms.seen[0]


@pytest.mark.parametrize(("clipped", "other"), [("components", "importance"), ("importance", "components")])
def test_each_group_is_clipped_on_its_own(clipped, other, tmp_path):
    free = _gradients(tmp_path)
    limit = 0.3 * free[clipped].norm().item()

    limited = _gradients(tmp_path, **{f"clip_{clipped}": limit})

    assert limited[clipped].norm().item() == pytest.approx(limit, rel=1e-4)
    torch.testing.assert_close(limited[clipped], 0.3 * free[clipped], rtol=1e-3, atol=1e-8)
    assert torch.equal(limited[other], free[other])


def test_the_importance_function_is_clipped_at_one_unless_told_otherwise(tmp_path):
    losses = {"importance": ImportanceMinimality(100.0)}
    seen = []
    for options in ({}, {"clip_importance": None}):
        norms = Probe(lambda trainer, module, outputs, batch: _norm(trained(module.model, "importance")))
        fit(
            toy(losses=losses, optimization=Optimization(**options)),
            features(),
            tmp_path,
            max_steps=1,
            callbacks=[norms],
        )
        seen += norms.seen
    assert seen[0] == pytest.approx(1.0, rel=1e-4)
    assert seen[1] > 5


def _norm(parameters):
    return torch.cat([parameter.grad.flatten() for parameter in parameters]).norm().item()


def test_a_gradient_within_the_limit_is_left_alone(tmp_path):
    free = _gradients(tmp_path)

    limited = _gradients(tmp_path, clip_components=2 * free["components"].norm().item())

    assert torch.equal(limited["components"], free["components"])


def test_clipping_by_the_trainer_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UsageError, match=r"use model.optimization.clip_components and clip_importance"):
        fit(toy(), features(), tmp_path, gradient_clip_val=1.0)


def test_a_run_without_end_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"trainer.max_steps must be at least 1, since schedules span it, got -1"):
        fit(toy(), features(), tmp_path, max_steps=-1, max_epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "optimization.lr must be a finite number above 0, got 0.0"),
        ({"importance_lr": -1.0}, "optimization.importance_lr must be .* got -1.0"),
        ({"clip_components": float("nan")}, "optimization.clip_components must be .* got nan"),
        ({"importance_weight_decay": -0.1}, "optimization.importance_weight_decay must be .* got -0.1"),
        ({"clip_importance": 0.0}, "optimization.clip_importance must be .* got 0.0"),
        ({"warmup_fraction": 1.5}, r"optimization.warmup_fraction must lie in \[0, 1\], got 1.5"),
        ({"final_fraction": -0.1}, r"optimization.final_fraction must lie in \[0, 1\], got -0.1"),
    ],
)
def test_optimisation_out_of_range_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Optimization(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "warmup.steps must be at least 0, got -1"),
        ({"steps": 1.5}, "warmup.steps must be a whole number, got 1.5"),
        ({"lr": 0.0}, "warmup.lr must be a finite number above 0, got 0.0"),
        ({"weight_decay": -0.1}, "warmup.weight_decay must be a finite number at least 0, got -0.1"),
    ],
)
def test_warmup_out_of_range_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Warmup(**options)


def test_the_warmup_explains_weights_and_touches_nothing_else():
    module = toy()
    before, first = trained_state(module), _unexplained(module)
    target = fingerprint(module.target)

    Warmup(steps=40).run(module.model, 1, show=False)

    after = trained_state(module)
    assert _unexplained(module) < 0.9 * first
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == name.startswith("model.importance_function"), name
    assert fingerprint(module.target) == target
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in module.parameters())


def test_below_1_the_warmup_is_a_share_of_training(tmp_path):
    shared, counted = (toy(warmup=Warmup(steps=steps)) for steps in (0.5, 3))
    for module in (shared, counted):
        fit(module, features(), tmp_path, max_steps=6)

    for name, tensor in trained_state(counted).items():
        assert torch.equal(trained_state(shared)[name], tensor), name
    assert [Warmup(steps).updates(4000) for steps in (0, 0.1, 1, 400)] == [0, 400, 1, 400]


def test_the_warmup_runs_where_gradients_are_off():
    module = toy()
    first = _unexplained(module)

    with torch.no_grad():
        Warmup(steps=10).run(module.model, 1, show=False)

    assert _unexplained(module) < first


def test_the_warmup_comes_before_the_first_step_and_not_again_on_resume(tmp_path):
    options = {"losses": {"importance": ImportanceMinimality()}, "warmup": Warmup(steps=20)}
    warm, cold = toy(**options), toy(**options | {"warmup": Warmup()})
    trainer = fit(warm, features(), tmp_path, max_steps=2)
    fit(cold, features(), tmp_path, max_steps=2)
    assert _unexplained(warm) < 0.9 * _unexplained(cold)
    trainer.save_checkpoint(tmp_path / "two.ckpt")

    resumed = toy(**options)
    fit(resumed, features(), tmp_path, ckpt_path=tmp_path / "two.ckpt", max_steps=2)

    for name, tensor in trained_state(warm).items():
        assert torch.equal(trained_state(resumed)[name], tensor), name


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_term_that_is_no_number_stops_training_before_the_step(bad, tmp_path):
    module = toy()
    good, poisoned = torch.full((4, 5), 0.5), torch.full((4, 5), bad)
    probe = Probe(lambda trainer, module, outputs, batch: trained_state(module))

    with pytest.raises(UsageError, match=r"loss term 'stochastic' became (nan|inf) at step 2; .*look at the data"):
        fit(module, Batches(good, good, poisoned, good), tmp_path, max_steps=4, callbacks=[probe])

    assert len(probe.seen) == 2
    for name, tensor in probe.seen[-1].items():
        assert torch.equal(trained_state(module)[name], tensor), name


def test_predictions_are_lower_leaky_importances(tmp_path):
    module, x = toy(), torch.rand(2, 3, 5)
    with expected_notices():
        (predicted,) = make_trainer(tmp_path).predict(module, Batches(x))

    importances = module.model.importance_of(x)
    assert list(predicted) == ["linear1", "linear2"]
    for name, importance in importances.items():
        torch.testing.assert_close(predicted[name], importance.lower.detach())


def test_components_start_from_the_first_batch_and_not_again_on_resume(tmp_path):
    data, still = features(), {"warmup": Warmup(0), "optimization": Optimization(lr=1e-12, importance_lr=1e-12)}
    expected = toy(init="examples").model
    expected.start_from_examples(data.train_batch(0))
    module, resumed = toy(init="examples", **still), toy(init="examples", **still)

    trainer = fit(module, data, tmp_path, max_steps=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    fit(resumed, features(), tmp_path, ckpt_path=tmp_path / "two.ckpt", max_steps=4)

    for decomposed in (module.model, resumed.model):
        for name, parameter in decomposed.named_parameters():
            torch.testing.assert_close(parameter, dict(expected.named_parameters())[name], rtol=0, atol=1e-9)


def test_the_warmup_follows_the_start_from_examples(tmp_path):
    x = torch.rand(32, 5)
    still = Optimization(lr=1e-12, importance_lr=1e-12)
    module = toy(
        init="examples", sites={"linear*": 1}, warmup=Warmup(50, lr=1e-2, weight_decay=0.0), optimization=still
    )
    cold = toy(init="examples", sites={"linear*": 1}, warmup=Warmup(0), optimization=still)
    fit(module, Batches(x), tmp_path, max_steps=1)
    fit(cold, Batches(x), tmp_path, max_steps=1)
    assert _unexplained(module) < 0.99 * _unexplained(cold)


@pytest.mark.parametrize(("probability", "warmed"), [(0.2, False), (1.0, True)])
def test_an_adaptive_start_is_warmed_up_where_it_is_not_exact(probability, warmed, tmp_path):
    x = torch.rand(256, 5) * (torch.rand(256, 5) < probability)
    still = Optimization(lr=1e-12, importance_lr=1e-12)
    module, expected = (toy(init=init, warmup=Warmup(20), optimization=still) for init in ("adaptive", "random"))
    if warmed:
        expected.warmup.run(expected.model, 1)
    else:
        expected = toy(init="examples")
        expected.model.start_from_examples(x)

    fit(module, Batches(x), tmp_path, max_steps=1)

    for name, parameter in module.model.components.named_parameters():
        torch.testing.assert_close(parameter, expected.model.components.get_parameter(name), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scope", ["row", "component"])
def test_a_resumed_run_goes_on_with_what_its_terms_remember(tmp_path, scope):
    """A persistent adversary, a moving average and a price, bit for bit."""

    def made():
        losses = {
            "faithfulness": RelativeFaithfulness(),
            "adversary": PersistentAdversary(distance="mse", scope=scope, warmup=0.0),
            "frequency": SmoothFrequency(half_life=3.0),
            "stochastic": Reconstruction(relative=True),
            "price": ConstrainedImportance(),
        }
        return toy(losses=losses)

    straight, first, resumed = made(), made(), made()
    fit(straight, features(), tmp_path, max_steps=6)
    fit(first, features(), tmp_path, max_steps=6, limit_train_batches=3, max_epochs=1).save_checkpoint(
        tmp_path / "b.ckpt"
    )
    fit(resumed, features(), tmp_path, max_steps=6, ckpt_path=tmp_path / "b.ckpt")

    for name, parameter in straight.model.named_parameters():
        assert torch.equal(parameter, resumed.model.get_parameter(name)), name
    for name, loss in straight.terms().items():
        torch.testing.assert_close(resumed.terms()[name].state(), loss.state(), rtol=0, atol=0)
    assert straight.terms()["adversary"].state()["pushes"] == 18
    assert straight.terms()["price"].price not in (1e-3, first.terms()["price"].price)
    assert StochasticDecomposition.load_from_checkpoint(tmp_path / "b.ckpt").terms()["adversary"].state()["pushes"] == 9


def test_a_plain_trainer_without_callbacks_has_scores(tmp_path):
    module = toy()
    trainer = fit(module, features(), tmp_path, max_steps=4, val_check_interval=2, limit_val_batches=None)
    scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
    with torch.no_grad():
        steps = [module.step(batch, Noise((0,), module.device)) for batch in trainer.datamodule.val_dataloader()]
        masks = [{name: ci.lower for name, ci in step.importance.items()} for step in steps]
        outputs = [module.model.masked(step.batch, some).output for step, some in zip(steps, masks, strict=True)]
    errors = [(output - step.clean.output).square().mean() for output, step in zip(outputs, steps, strict=True)]
    counts = [sum((ci > 0.1).sum(-1).float().mean() for ci in some.values()) for some in masks]
    assert scores["val/distance"] == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)
    assert scores["val/l0"] == pytest.approx(torch.stack(counts).mean().item(), rel=1e-5)


def test_a_basis_stays_as_it_is_while_importances_are_learned(tmp_path):
    module = toy(sites={"linear1": 5, "linear2": 5}, init="neurons", optimization=Optimization(0.0, importance_lr=1e-2))
    module.setup("fit")
    before = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
    fit(module, features(), tmp_path, max_steps=3)
    moved = {name for name, tensor in module.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("importance_function.") for name in moved)


def test_a_basis_of_neurons_needs_one_component_each():
    with pytest.raises(UsageError, match=r"^init: site 'linear1': neurons need C = 2 .* or C = 5 .*, got C = 6$"):
        toy(init="neurons")
    with pytest.raises(UsageError, match=r"optimization\.lr must be a finite number above 0, got 0"):
        Optimization(lr=0.0)


def test_a_batch_that_the_target_cannot_take_is_told_of_in_one_line():
    module = StochasticDecomposition(nn.Sequential(nn.Linear(5, 3)), {"0": 4})
    with pytest.raises(UsageError, match=r"data: the target fails on a batch of .*; change the data, or say with call"):
        module.predict_step(torch.rand(1, 3), 0)
