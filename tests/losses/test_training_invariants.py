import pytest
import torch

from spd_lightning import Faithfulness, ImportanceMinimality, Reconstruction
from spd_lightning.losses import Noise, Step

TERMS = {
    "faithfulness": Faithfulness(),
    "stochastic": Reconstruction(),
    "layerwise": Reconstruction(routing="layerwise", sources="binomial"),
    "subset": Reconstruction(routing="subset"),
    "adversarial": Reconstruction(sources="adversarial", adversary_steps=2),
    "importance": ImportanceMinimality(coefficient=1e-3),
}


def _train(model, x, steps, lr=1e-2):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
    totals = []
    for index in range(steps):
        step = Step.of(model, x, Noise((0, index), x.device), index / steps)
        total = sum(loss.coefficient * loss(step.named(name)) for name, loss in TERMS.items())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals


@pytest.mark.parametrize("use_delta", [True, False])
def test_training_moves_everything_but_the_target(make_model, x, use_delta):
    model = make_model(use_delta=use_delta)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _train(model, x, 5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("target."), name
    assert all(parameter.grad is None for parameter in model.target.parameters())
    assert all(parameter.grad is not None for parameter in model.components.parameters())


def test_the_total_falls_on_a_fixed_batch(make_model, x):
    totals = _train(make_model(), x, 60)
    assert sum(totals[-10:]) < 0.5 * sum(totals[:10])


def test_the_clean_pass_of_a_step_carries_no_gradient(make_model, make_step, x):
    step = make_step(make_model(), x)
    assert not step.clean.output.requires_grad
    assert not any(a.requires_grad for a in step.clean.site_inputs.values())
    assert all(ci.lower.requires_grad and ci.upper.requires_grad for ci in step.importance.values())
