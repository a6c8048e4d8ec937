"""A fast step trains what a plain one trains."""

import importlib
import re

import pytest
import torch

from spd_lightning import (
    ActivationReconstruction,
    Faithfulness,
    ImportanceMinimality,
    Optimization,
    Reconstruction,
    SparseFeatures,
    Speed,
    StochasticDecomposition,
    UsageError,
)
from spd_lightning.functional import WeightedBatch
from spd_lightning.kernels import build
from spd_lightning.losses import Noise
from spd_lightning.methods import stochastic
from spd_lightning.model import FastForm, PlainForm, TwinComponents
from tests.methods.tiny import Batches, Probe, expected_notices, features, fit, paper_losses, toy, trained_state

DISPATCH, SPEED = (importlib.import_module(f"spd_lightning.{name}") for name in ("kernels.dispatch", "methods.speed"))
CPU = torch.device("cpu")
ROWS = 300
"""Enough for a table of 65 nodes."""


def _data(**options):
    return features(**({"batch_size": ROWS, "merge_empty": False} | options))


def _same(left, right):
    return all(torch.equal(tensor, right[name]) for name, tensor in left.items())


@pytest.fixture
def no_library(monkeypatch):
    """As on a machine without a compiler."""
    for room in (DISPATCH, SPEED):
        monkeypatch.setattr(room, "build", lambda: type(build())(None, "there is none"))


@pytest.fixture
def told(capfd):
    """The notices written to stderr so far."""
    lines = []

    def read():
        lines.extend(line for line in capfd.readouterr().err.splitlines() if line.startswith("notice: "))
        return lines

    return read


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "quick"}, "speed.step must be one of .* got 'quick'"),
        ({"table_nodes": 3}, r"speed.table_nodes must be 0 or lie in \[8, 2049\], got 3"),
        ({"table_nodes": -1}, r"speed.table_nodes must be 0 or lie in \[8, 2049\], got -1"),
        ({"table_nodes": 2050}, r"speed.table_nodes must be 0 or lie in \[8, 2049\], got 2050"),
        ({"table_tolerance": 0.0}, "speed.table_tolerance must be a finite number above 0, got 0.0"),
        ({"table_tolerance": float("nan")}, "speed.table_tolerance must be a finite number above 0, got nan"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message) as error:
        Speed(**options)
    assert "\n" not in str(error.value)


LOSSES = {
    "faithfulness": lambda: Faithfulness(),
    "importance": lambda: ImportanceMinimality(coefficient=0.1, p=2.0),
    "ci": lambda: Reconstruction(2.0, sources="ci", routing="layerwise"),
    "ones": lambda: Reconstruction(sources="ones"),
    "binomial": lambda: Reconstruction(sources="binomial", routing="subset"),
}


STOCHASTIC = {
    "uniform": lambda: Reconstruction(),
    "layerwise": lambda: Reconstruction(routing="layerwise", samples=2),
    "subset": lambda: Reconstruction(routing="subset"),
    "activations": lambda: ActivationReconstruction(),
}
"""Terms whose masks a compiled step draws from another stream."""


def _objective(speed, batch, key=0, **options):
    module = toy(speed=speed, **options)
    total, terms = module.objective(batch, Noise(("objective", key), CPU), 0.5)
    gradients = torch.autograd.grad(total, [p for p in module.parameters() if p.requires_grad])
    return torch.stack([total.detach(), *terms.values()]), gradients


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("nodes", [0, 257])
@pytest.mark.parametrize("weighted", [False, True])
def test_both_steps_have_the_same_objective(compiled, nodes, weighted):
    x = torch.rand(600, 5)
    batch = WeightedBatch(x, torch.rand(600).softmax(0)) if weighted else x
    terms = LOSSES if compiled else LOSSES | STOCHASTIC
    given = [{name: make() for name, make in terms.items()} for _ in range(2)]
    fast = _objective(Speed(compile=compiled, table_nodes=nodes), batch, losses=given[0])
    plain = _objective(Speed(step="plain"), batch, losses=given[1])
    torch.testing.assert_close(fast[0], plain[0], rtol=1e-4, atol=1e-6)
    for one, other in zip(fast[1], plain[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


def _draws(speed, **options):
    x = torch.rand(ROWS, 5, generator=torch.Generator().manual_seed(6))
    draws = [_objective(speed, x, key, **options) for key in range(60)]
    return torch.stack([torch.cat([values, *map(torch.flatten, slopes)]) for values, slopes in draws])


def _agree_in_the_mean(one, other):
    """Whether no value and no slope differs by more than five standard errors."""
    spread = ((one.var(0) + other.var(0)) / len(one)).sqrt()
    return bool(((one.mean(0) - other.mean(0)).abs() <= 5 * spread + 1e-5).all())


@pytest.mark.skipif(build().library is None, reason="no compiled kernels here, and so one stream of noise")
def test_a_compiled_step_with_noise_of_its_own_has_the_same_expectation():
    fast, plain = _draws(Speed(table_nodes=0)), _draws(Speed(step="plain"))
    assert _agree_in_the_mean(fast, plain)
    assert not torch.isclose(fast, plain, rtol=1e-3).all(), "noise of its own"
    halved = paper_losses()
    halved["stochastic"].coefficient = 0.5
    for wrong in ({"losses": halved}, {"leak": "linear"}, {"use_delta": False}):
        assert not _agree_in_the_mean(fast, _draws(Speed(step="plain"), **wrong)), wrong


def test_the_default_is_fast_and_evaluation_is_plain():
    module = toy()
    assert module.speed == Speed(step="fast", compile=True)
    x = torch.rand(ROWS, 5)
    assert type(module.form_of(x)) is FastForm
    assert type(toy(speed=Speed(step="plain")).form_of(x)) is PlainForm
    for step in (module.validation_step(x, 0), module.test_step(x, 0)):
        assert type(step["step"].form) is PlainForm


def test_training_repeats_itself_bit_for_bit(tmp_path):
    states = []
    for _ in range(2):
        module = toy()
        fit(module, _data(), tmp_path, max_steps=5)
        states.append(trained_state(module))
    assert _same(*states)


def _apart(left, right):
    """Root mean square over all weights: the largest difference alone is that of one last digit of one weight."""
    difference = torch.cat([(tensor - right[name]).flatten().double() for name, tensor in left.items()])
    return difference.square().mean().sqrt().item()


def test_both_steps_train_the_same_weights_from_the_same_noise(tmp_path):
    """Found are 5e-9 or less after five steps; an objective of which one coefficient is off by 2 % differs by 3e-8."""

    def trained(speed, off=None, **options):
        losses = paper_losses()
        if off is not None:
            losses[off].coefficient *= 1.02
        module = toy(speed=speed, losses=losses, **options)
        fit(module, _data(), tmp_path, max_steps=5)
        return trained_state(module)

    plain = trained(Speed(step="plain"))
    for nodes in (None, 0):
        assert _apart(trained(Speed(compile=False, table_nodes=nodes)), plain) < 1e-8
    fast = Speed(compile=False)
    wrong = [{"off": name} for name in paper_losses()] + [{"leak": "linear"}, {"use_delta": False}]
    for options in wrong:
        assert _apart(trained(fast, **options), plain) > 2e-8, options


def test_a_configured_table_that_is_too_coarse_is_refused_with_a_number_that_will_do(tmp_path):
    module = toy(speed=Speed(table_nodes=9, table_tolerance=1e-4))
    before = trained_state(module)
    with pytest.raises(
        UsageError, match=r"^speed.table_nodes: 9 nodes exceed .*\(1.0e-04\); raise .* to \d+, or"
    ) as error:
        fit(module, _data(), tmp_path, max_steps=2)
    assert _same(before, trained_state(module))
    assert "\n" not in str(error.value)
    nodes = int(re.search(r"table_nodes to (\d+)", str(error.value))[1])
    advised = toy(speed=Speed(table_nodes=nodes, table_tolerance=1e-3))
    fit(advised, _data(), tmp_path, max_steps=2)
    assert advised.tables.nodes == nodes


def test_without_a_number_as_many_nodes_are_taken_as_the_tolerance_needs(tmp_path, told):
    nodes = []
    for tolerance in (1e-2, 1e-5, 1e-7):
        module = toy(speed=Speed(compile=False, table_tolerance=tolerance))
        fit(module, _data(), tmp_path, max_steps=1)
        nodes.append(module.tables.nodes)
    assert nodes == sorted(nodes)
    assert nodes[0] < nodes[-1]
    assert told() == []


class Growing(SparseFeatures):
    """Features that grow from batch to batch, and with them what a table must cover."""

    def train_batch(self, index):
        return 1.7**index * super().train_batch(index)


def _growing():
    return Growing(5, feature_probability=0.4, batch_size=ROWS, val_batches=1, merge_empty=False)


@pytest.fixture
def often(monkeypatch):
    """Tables are looked at every second step."""
    monkeypatch.setattr(stochastic, "STEPS_PER_TABLE_CHECK", 2)


def _nodes():
    return Probe(lambda trainer, module, outputs, batch: module.tables.nodes)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("nodes", [None, 33])
def test_a_table_outgrown_during_training_gets_more_nodes_and_a_resumed_run_goes_on_with_them(nodes, tmp_path):
    def module():
        return toy(speed=Speed(table_nodes=nodes, table_tolerance=1e-3), optimization=Optimization(schedule="constant"))

    straight, stopped, resumed = (module() for _ in range(3))
    whole, rest = _nodes(), _nodes()
    fit(straight, _growing(), tmp_path, max_steps=6, callbacks=[whole])
    assert whole.seen == sorted(whole.seen)
    assert whole.seen[0] < whole.seen[-1] == 129

    # the sixth step does not look at tables: its node count is the one that the checkpoint kept
    fit(stopped, _growing(), tmp_path, max_steps=5).save_checkpoint(tmp_path / "five.ckpt")
    fit(resumed, _growing(), tmp_path, ckpt_path=tmp_path / "five.ckpt", max_steps=6, callbacks=[rest])

    assert rest.seen == [129]
    assert _same(trained_state(straight), trained_state(resumed))


@pytest.mark.usefixtures("often")
def test_where_no_table_is_fine_enough_gates_are_exact_which_is_told_once(tmp_path, told):
    module, exact = (
        toy(speed=speed)
        for speed in (Speed(compile=False, **few) for few in ({"table_tolerance": 1e-30}, {"table_nodes": 0}))
    )
    fit(module, _data(), tmp_path, max_steps=6)
    assert told() == ["notice: no gate table is fine enough, gates are now exact"]
    fit(exact, _data(), tmp_path, max_steps=6)
    assert _same(trained_state(module), trained_state(exact))
    assert len(told()) == 1


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, True),
        ({"ties": {"linear2": "linear1"}}, True),
        ({"ties": {"linear2": "linear1"}, "tied_updates": "twice"}, True),
        ({"speed": Speed(step="plain")}, False),
    ],
)
def test_the_fast_step_updates_all_parameters_in_one_call(options, fused, tmp_path):
    (optimizer,) = fit(toy(**options), _data(), tmp_path, max_steps=1).optimizers
    assert [bool(group["fused"]) for group in optimizer.param_groups] == [fused] * 2


def test_twins_are_updated_twice_in_one_call_too():
    ends = []
    for fused in (False, True):
        model = toy(ties={"linear2": "linear1"}, tied_updates="twice").model
        optimizer, _ = Optimization(lr=0.01).build(model, 10, fused)
        for scale in (1.0, -0.5, 2.0):
            for index, parameter in enumerate(model.components.parameters()):
                parameter.grad = torch.cos(scale * parameter.detach() + index)
            optimizer.step()
        source, twin = model.components["linear1"], model.components["linear2"]
        assert isinstance(twin, TwinComponents)
        assert torch.equal(twin.V, source.U.T)
        assert torch.equal(twin.U, source.V.T)
        ends.append([parameter.detach().clone() for parameter in model.components.parameters()])
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", ["stochastic", "importance"])
def test_a_term_that_is_no_number_stops_training_before_the_step(name, compiled, tmp_path):
    losses = {"stochastic": {"stochastic": Reconstruction()}, "importance": {"importance": ImportanceMinimality()}}[
        name
    ]
    module, good = toy(losses=losses, speed=Speed(compile=compiled)), torch.rand(ROWS, 5)
    bad = good.clone()
    bad[7] = float("nan")
    with pytest.raises(UsageError, match=f"loss term '{name}' became nan at step 2"):
        fit(module, Batches(good, good, bad, good), tmp_path, max_steps=4)
    assert all(tensor.isfinite().all() for tensor in trained_state(module).values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_that_is_no_number_is_not_saved(value, tmp_path):
    module = toy()
    trainer = fit(module, _data(), tmp_path, max_steps=2)
    with torch.no_grad():
        module.model.importance_function.functions["linear2"].weights[0][1] = value
    told = r"functions.linear2.weights.0 is not finite at step 2; this state is not saved"
    with pytest.raises(UsageError, match=told):
        trainer.save_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "bad.ckpt").exists()


@pytest.mark.usefixtures("no_library")
def test_without_a_compiler_one_line_says_so_and_training_works(tmp_path, told):
    module = toy()
    before = trained_state(module)
    fit(module, _data(), tmp_path, max_steps=3)
    after = trained_state(module)
    assert all(not torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert told() == ["notice: the step runs without compiled kernels, since there is none; the same formulas, slower"]
    written_in_pytorch = toy(speed=Speed(compile=False))
    fit(written_in_pytorch, _data(), tmp_path, max_steps=3)
    assert _same(after, trained_state(written_in_pytorch))
    assert len(told()) == 1


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("speed", [Speed(step="plain"), Speed(compile=False)])
def test_nothing_is_said_where_no_kernels_are_wanted(speed):
    assert speed.notice() is None


def test_a_checkpoint_keeps_how_steps_are_computed(tmp_path):
    speed = Speed(compile=False, table_nodes=129, table_tolerance=1e-3)
    trainer = fit(toy(speed=speed), _data(), tmp_path, max_steps=1)
    with expected_notices():
        trainer.save_checkpoint(tmp_path / "saved.ckpt")
    assert StochasticDecomposition.load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=True).speed == speed


def test_a_checkpoint_from_before_there_were_tables_is_taken(tmp_path):
    path = tmp_path / "saved.ckpt"
    fit(toy(), _data(), tmp_path, max_steps=2).save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    del content["spd_lightning"]["table_nodes"]
    torch.save(content, path)
    module = toy()
    assert fit(module, _data(), tmp_path, ckpt_path=path, max_steps=4).global_step == 4
