"""Terms for a network that nobody tuned anything for, and what its outputs are taken for."""

import pytest
import torch
from torch import nn

from spd_lightning import AutomaticCall, KeywordCall, PositionalCall, UsageError
from spd_lightning.losses import guessed_distance, untuned_losses

VECTORS, TOKENS = torch.rand(4, 3), torch.tensor([[0, 4], [2, 2], [1, 0], [3, 3]])
OUTPUT = torch.randn(4, 5)


def _guessed(call, batch, output=OUTPUT):
    call.bind(nn.Linear(3, 5))
    return guessed_distance(call, batch, output)


@pytest.mark.parametrize(
    ("call", "batch", "output", "ground"),
    [
        (KeywordCall(["x"], output="logits"), {"x": VECTORS}, OUTPUT, "named logits"),
        (AutomaticCall(), (VECTORS, torch.tensor([0, 4, 1, 1])), OUTPUT, "labels"),
        (PositionalCall(labels=1), [VECTORS, torch.tensor([0, -100, 1, 1])], OUTPUT, "labels"),
        (AutomaticCall(), VECTORS, OUTPUT.masked_fill(torch.arange(5) == 4, -torch.inf), "minus infinity"),
        (AutomaticCall(), TOKENS, torch.randn(4, 2, 5), "tokens"),
    ],
)
def test_logits(call, batch, output, ground):
    kind, why = _guessed(call, batch, output)

    assert kind == "kl"
    assert ground in why


@pytest.mark.parametrize(
    ("call", "batch", "output"),
    [
        (AutomaticCall(), VECTORS, OUTPUT),
        (AutomaticCall(), (VECTORS, torch.tensor([0, 5, 1, 1])), OUTPUT),  # no output for class 5
        (AutomaticCall(), (VECTORS, torch.rand(4)), OUTPUT),
        (AutomaticCall(), TOKENS, torch.randn(4, 2, 4)),  # no output for token 4
        (KeywordCall(["x"], output="hidden"), {"x": VECTORS}, OUTPUT),
    ],
)
def test_other_outputs(call, batch, output):
    assert _guessed(call, batch, output)[0] == "mse"


def test_what_is_tolerated_is_of_random_ablation_and_an_adversary_has_more():
    price = untuned_losses(tolerance=0.1)["importance"]
    assert (price.tolerance, price.follows) == (0.1, {"stochastic": 1.0, "adversary": 4.0})


@pytest.mark.parametrize(
    ("tolerance", "complaint"),
    [
        (0.25, r"tolerance \* follows.adversary must be below 1, .* got 0.25 \* 4: take a tolerance below 0.25"),
        (0.0, "tolerance must be a finite number above 0, got 0"),
        (float("nan"), "tolerance must be a finite number above 0, got nan"),
    ],
)
def test_tolerances_that_are_refused(tolerance, complaint):
    with pytest.raises(UsageError, match=complaint):
        untuned_losses(tolerance=tolerance)
