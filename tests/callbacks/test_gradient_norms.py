import re

import pytest
import torch
from lightning.pytorch import Callback
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from spd_lightning import AttributionDecomposition, Optimization
from spd_lightning.callbacks import TrainingLog, dashboard, training_log
from tests.callbacks.test_rhythm import Notebook
from tests.methods.tiny import features, fit, toy, toy_target

MAKERS = {
    "spd": lambda **options: toy(**options),
    "apd": lambda **options: AttributionDecomposition(toy_target(), ["linear*"], 4, k=1.0, **options),
}
GROUPS = {"spd": {"components", "importance"}, "apd": {"components"}}


class Gradients(Callback):
    """Keeps what each group's gradient is when an update is due, as one long vector, and when it has been made."""

    def __init__(self) -> None:
        self.before, self.after = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.before.append(_long(optimizer))

    def on_train_batch_end(self, trainer, *_):
        if len(self.after) < len(self.before):
            self.after.append(_long(trainer.optimizers[0]))


def _long(optimizer):
    return {g["name"]: torch.cat([p.grad.flatten() for p in g["params"]]).clone() for g in optimizer.param_groups}


def _written(notebook):
    start = "train/gradient_norm/"
    return [
        (step, {name.removeprefix(start): value for name, value in scalars.items() if name.startswith(start)})
        for step, scalars in notebook.calls
    ]


@pytest.mark.parametrize("method", MAKERS)
@pytest.mark.parametrize("batches", [1, 2])
def test_each_group_s_norm_is_written_as_it_is_before_clipping(method, batches, tmp_path):
    notebook, gradients = Notebook(), Gradients()
    module = MAKERS[method](optimization=Optimization(clip_components=1e-3))

    options = {"max_steps": 4, "accumulate_grad_batches": batches, "logger": notebook}
    fit(module, features(), tmp_path, callbacks=[TrainingLog(2), gradients], **options)

    written = _written(notebook)
    assert [step for step, _ in written] == [1, 2, 4]
    for step, norms in written:
        assert set(norms) == GROUPS[method]
        for name, norm in norms.items():
            assert norm == pytest.approx(gradients.before[step - 1][name].double().norm().item(), rel=1e-5)
        assert norms["components"] > 1e-3
        assert gradients.after[step - 1]["components"].norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_norms_are_asked_for_only_where_a_point_is_due(tmp_path, monkeypatch):
    asked, original = [], training_log._norm
    monkeypatch.setattr(training_log, "_norm", lambda group: asked.append(group["name"]) or original(group))

    fit(toy(), features(), tmp_path, max_steps=9, callbacks=[TrainingLog(4)])

    assert asked == ["components", "importance"] * 3  # steps 1, 4 and 8


def test_only_parameters_that_have_a_gradient_count():
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    assert training_log._norm({"params": parameters}) == 0

    parameters[1].grad = torch.tensor([3.0, 0.0, -4.0])
    assert training_log._norm({"params": parameters}) == 5


def _process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    parameters = [torch.nn.Parameter(distribute_tensor(torch.zeros(n, 2), mesh, [Shard(0)])) for n in (4, 3)]
    for parameter, whole in zip(parameters, _wholes(), strict=True):
        parameter.grad = distribute_tensor(whole, mesh, [Shard(0)])
        assert isinstance(parameter.grad, DTensor)
    torch.save(training_log._norm({"params": parameters}), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def _wholes():
    return torch.arange(8.0).reshape(4, 2), torch.arange(6.0).reshape(3, 2) - 2


@pytest.mark.reliability
def test_shards_on_several_processes_count_together(tmp_path):
    torch.multiprocessing.spawn(_process, args=(str(tmp_path),), nprocs=2)

    whole = torch.cat([gradient.flatten() for gradient in _wholes()]).norm()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, whole)


def test_tensorboard_shows_them_beside_the_learning_rate_and_apart_from_losses():
    objective = dashboard._LAYOUT["Objective"]
    shown = {title: [re.compile(tag) for tag in tags] for title, (_, tags) in objective.items()}
    where = {
        tag: {title for title, patterns in shown.items() if any(pattern.fullmatch(tag) for pattern in patterns)}
        for tag in ("train/gradient_norm/components", "train/gradient_norm/importance", "train/lr", "train/stochastic")
    }

    assert where == {
        "train/gradient_norm/components": {"gradient norm before clipping"},
        "train/gradient_norm/importance": {"gradient norm before clipping"},
        "train/lr": {"learning rate"},
        "train/stochastic": {"reconstruction"},
    }
