"""The published order of work computes the same objective."""

import argparse

import pytest
import torch

from benchmarks.language_model import COEFFICIENTS, POWER, SIZES, module_of
from benchmarks.published_step import PublishedStep
from spd_lightning.functional import kl
from spd_lightning.losses import Noise, Step
from spd_lightning.model import SiteMask

SMALL = {"width": 32, "layers": 2, "vocabulary": 50, "length": 6, "batch": 3, "components": 5, "hidden": 4}


@pytest.fixture
def module():
    return module_of(argparse.Namespace(**SIZES | SMALL, device="cpu"), "plain", persistent=False)


@pytest.fixture
def batch():
    tokens = torch.randint(50, (3, 6))
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


@pytest.mark.parametrize("everywhere", [0.0, 1 - 1e-6])
def test_terms_are_the_packages(module, batch, everywhere):
    """Noise that is one number leaves nothing to chance: no site but one, or all of them, run on components."""
    total, terms = PublishedStep(module.model, COEFFICIENTS, POWER, lambda shape: torch.full(shape, everywhere))(batch)
    step = Step.of(module.model, batch, Noise((0,), torch.device("cpu")), 0.5)
    own = {name: module.terms()[name](step) for name in ("faithfulness", "importance")}
    routed = list(module.model.components)[: 1 if not everywhere else None]
    masks = {
        name: SiteMask(step.importance[name].lower * (1 - everywhere) + everywhere, torch.full((3, 6), everywhere))
        for name in routed
    }
    own["stochastic"] = kl(module.model.masked(batch, masks).output, step.clean.output)
    for name, term in own.items():
        torch.testing.assert_close(terms[name], term, rtol=1e-4, atol=1e-6)
    trained = [parameter for parameter in module.model.parameters() if parameter.requires_grad]
    summed = sum(COEFFICIENTS[name] * own[name] for name in terms)
    torch.testing.assert_close(total, summed, rtol=1e-4, atol=1e-6)
    for found, expected in zip(torch.autograd.grad(total, trained), torch.autograd.grad(summed, trained), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_modules_are_as_before(module, batch):
    before = module.target(**batch).logits
    PublishedStep(module.model, COEFFICIENTS, POWER)(batch)
    assert torch.equal(module.target(**batch).logits, before)
    assert not any("forward" in vars(part) for part in module.target.modules())
