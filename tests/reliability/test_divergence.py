"""A step whose numbers are not finite stops the run, says where, and can be repeated."""

import re

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from spd_lightning import Faithfulness, Loss, Reconstruction, Speed, StochasticDecomposition, UsageError
from spd_lightning.callbacks import TrainingHealth
from spd_lightning.functional import WeightedBatch
from spd_lightning.methods import repeat_step
from tests.methods.tiny import Batches, features, fit, toy, trained_state

GOOD = torch.full((4, 5), 0.5)


class Steep(Loss):
    """Finite, with an infinite gradient where one number is zero: the square root at its foot."""

    def forward(self, step):
        return step.model.components["linear2"].U[0, 0].abs().sqrt()


class Level(Callback):
    """Puts one parameter on the spot before a step, as training might."""

    def __init__(self, step, value, name="U"):
        self.step, self.value, self.name = step, value, name

    def on_train_batch_start(self, trainer, pl_module, *_):
        if trainer.global_step == self.step:
            getattr(pl_module.model.components["linear2"], self.name).data[0, 0] = self.value


def _stopped(module, data, folder, callbacks=(), **options):
    with pytest.raises(UsageError) as error:
        fit(module, data, folder, max_steps=6, callbacks=list(callbacks), **options)
    message = str(error.value)
    assert "\n" not in message
    named = re.search(r"repeat_step\('(.+)'\)", message)
    return message, named and named[1]


def _steep(**options):
    losses = {"faithfulness": Faithfulness(), "stochastic": Reconstruction(), "steep": Steep()}
    return toy(losses=losses, **options)


@pytest.mark.parametrize("speed", ["fast", "plain"])
def test_a_gradient_that_is_not_finite_is_stopped_before_it_does_harm(tmp_path, speed):
    module = _steep(speed=Speed(step=speed))

    message, path = _stopped(module, features(), tmp_path, [Level(2, 0.0)])

    assert "the gradient became non-finite at step 2; " in message
    assert "in the gradient of U of site 'linear2', from loss term 'steep'; training" in message
    assert all(tensor.isfinite().all() for tensor in trained_state(module).values())
    assert module.global_step == 2
    kept = torch.load(path, weights_only=True)
    assert kept["global_step"] == 2
    for name, tensor in module.state_dict().items():
        assert torch.equal(kept["state_dict"][name], tensor), name


@pytest.mark.parametrize(
    ("value", "name", "where"),
    [(float("nan"), "V", "NaN in V of site 'linear2'"), (3e38, "U", "infinity in")],
    ids=["a parameter", "a product that overflows"],
)
def test_a_loss_that_is_not_finite_names_term_site_and_step(tmp_path, value, name, where):
    message, _ = _stopped(toy(), features(), tmp_path, [Level(3, value, name)])

    assert re.search(r"loss term 'faithfulness' became (nan|inf) at step 3; ", message)
    assert "linear2" in message
    assert where in message


def test_a_batch_that_is_not_finite_is_named_as_such(tmp_path):
    bad = GOOD.clone()
    bad[1, 2] = float("inf")

    message, path = _stopped(toy(), Batches(GOOD, bad, GOOD), tmp_path)

    assert "at step 1; the batch itself is not finite; training stopped" in message
    assert "look at the data" in message
    assert torch.equal(torch.load(path, weights_only=True)["non_finite"]["batch"], bad)


def test_a_sum_that_overflows_though_its_terms_do_not_stops_as_well(tmp_path):
    losses = {"first": Reconstruction(3e38), "second": Reconstruction(3e38), "third": Faithfulness(3e38)}

    message, _ = _stopped(toy(losses=losses), Batches(*[1e4 * GOOD] * 6), tmp_path)

    assert "the weighted sum of the losses became inf at step 0" in message


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("save_target", [True, False])
def test_a_kept_step_repeats_the_same_numbers(tmp_path, merged, save_target):
    seen = []

    class Note(Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            seen.append(loss.item())

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            assert isinstance(batch, WeightedBatch) == merged

    module = _steep(ties={"linear2": "linear1"}, save_target=save_target)
    _, path = _stopped(
        module,
        features(merge_empty=merged, batch_size=256, feature_probability=0.05),
        tmp_path,
        [Level(4, 0.0), Note()],
    )

    again = repeat_step(path, None if save_target else module.target)

    assert again.loss.item() == seen[-1]
    assert set(again.terms) == {"faithfulness", "stochastic", "steep"}
    assert not all(p.grad.isfinite().all() for p in again.module.parameters() if p.grad is not None)
    assert "at step 4" in again.told


def test_accumulated_batches_are_looked_at_one_by_one(tmp_path):
    message, path = _stopped(_steep(), features(), tmp_path, [Level(1, 0.0)], accumulate_grad_batches=3)

    assert "at step 1" in message
    assert torch.load(path, weights_only=True)["non_finite"]["key"] == [0, "train", 1, 0, 0]


def test_a_second_failure_leaves_the_file_of_the_first(tmp_path):
    _, first = _stopped(toy(), Batches(GOOD * float("nan")), tmp_path)
    content = (tmp_path / "non_finite/step=0.pt").read_bytes()

    _, second = _stopped(toy(), Batches(GOOD * float("nan")), tmp_path)

    assert first != second
    assert (tmp_path / "non_finite/step=0.pt").read_bytes() == content


def test_a_gradient_that_only_sums_to_infinity_is_no_divergence(tmp_path):
    class Large(Loss):
        def forward(self, step):
            total = step.model.components["linear1"].V.sum()
            return 3e37 * (total - total.detach())

    trainer = fit(toy(losses={"large": Large()}), features(), tmp_path, max_steps=1)

    assert trainer.global_step == 1


@pytest.mark.parametrize("content", [{}, {"non_finite": {"format": 1}}, {"divergence": {"format": 1}}, [1]])
def test_a_file_that_is_no_kept_step_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "step=1.pt")

    with pytest.raises(UsageError, match=r"kept step .* is not of format 2, the one that this version reads"):
        repeat_step(tmp_path / "step=1.pt")


def _unhealthy(bias, worse=False):
    """Holds the bias of all importances' logits, and if need be components that are far too large."""

    class Hold(Callback):
        def on_validation_start(self, trainer, pl_module):
            with torch.no_grad():
                for function in pl_module.model.importance_function.functions.values():
                    list(function.parameters())[-1].fill_(bias)
                if worse:
                    for parts in pl_module.model.components.values():
                        parts.U.fill_(30.0)

    return Hold()


@pytest.mark.parametrize(
    ("hold", "told", "untold"),
    [
        ({"bias": -50.0}, "no component has an importance above 0.1", "further from"),
        ({"bias": 50.0}, "of all importances are 0.99 or more", "no component"),
        ({"bias": 50.0, "worse": True}, "than with everything ablated", "no component"),
    ],
    ids=["dead", "saturated", "worse than nothing"],
)
def test_training_that_leads_nowhere_is_told_once_with_advice(tmp_path, capsys, hold, told, untold):
    health = TrainingHealth(patience=2)

    fit(
        toy(),
        features(),
        tmp_path,
        max_steps=10,
        callbacks=[_unhealthy(**hold), health],
        val_check_interval=2,
        limit_val_batches=2,
    )

    lines = [line for line in capsys.readouterr().err.splitlines() if told in line]
    assert lines
    assert len(lines) == len(set(lines)), "told twice"
    assert all(line.startswith("warning: step 4: ") for line in lines)
    assert all("price of importance" in line for line in lines)
    assert untold not in "".join(lines)


def test_healthy_training_is_not_warned_about(tmp_path, capsys):
    fit(
        toy(),
        features(),
        tmp_path,
        max_steps=30,
        callbacks=[TrainingHealth(patience=1)],
        val_check_interval=5,
        limit_val_batches=2,
    )

    assert "warning:" not in capsys.readouterr().err


def test_a_resumed_run_does_not_warn_again(tmp_path, capsys):
    told = "no component has an importance"
    options = {"max_steps": 6, "val_check_interval": 2, "limit_val_batches": 2}
    first, resumed = TrainingHealth(patience=2), TrainingHealth(patience=2)
    fit(toy(), features(), tmp_path, callbacks=[_unhealthy(-50.0), first], **options)
    assert told in capsys.readouterr().err

    resumed.load_state_dict(first.state_dict())
    fit(toy(), features(), tmp_path, callbacks=[_unhealthy(-50.0), resumed], **options)

    assert told not in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"patience": 0}, {"saturation": 0.0}, {"saturated_share": 1.5}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        TrainingHealth(**options)


def test_the_two_documented_lines(tmp_path):
    _, path = _stopped(toy(), Batches(GOOD * float("nan")), tmp_path)

    module, batch, loss, terms, told = repeat_step(path)

    assert isinstance(module, StochasticDecomposition)
    assert isinstance(module, nn.Module)
    assert batch.isnan().all()
    assert loss.isnan()
    assert "loss term" in told
    assert set(terms) == {"faithfulness", "stochastic", "layerwise", "importance"}
