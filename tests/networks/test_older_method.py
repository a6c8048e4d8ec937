"""The older method on networks of other shapes: attributions are those of the weights, calls of one site add up."""

import pytest
import torch
from torch.func import functional_call

from spd_lightning import AttributedModel, AttributionDecomposition, UsageError
from spd_lightning.losses import Noise
from spd_lightning.model import AttributedForm
from tests.networks.models import call_of
from tests.networks.zoo import ZOO, example, network

PER_EXAMPLE = ("in-place residual", "in-place relu", "shared layer", "two inputs")


def _model(name, **options):
    model = AttributedModel(network(name), list(ZOO[name].sites), 3, rank=2, call=call_of(name), **options).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.components.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def _component(parts, c):
    return torch.einsum("im,mo->oi", parts.V[:, c], parts.U[c])


@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_attributions_are_gradients_of_the_weights(name):
    model, batch = _model(name), example(name, double=True)
    found = model.attributed(batch).scores
    target, parts = model.target, batch if isinstance(batch, tuple) else (batch,)
    weights = {site: target.get_submodule(site).weight for site in model.site_names}
    for row in range(len(parts[0])):
        leaves = {f"{site}.weight": w.detach().clone().requires_grad_() for site, w in weights.items()}
        output = functional_call(target, leaves, tuple(part[row : row + 1].clone() for part in parts))[0]
        changes = torch.zeros(3, len(output), dtype=torch.float64)
        for o, value in enumerate(output):
            gradients = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, allow_unused=True)
            for c in range(3):
                for gradient, site in zip(gradients, model.site_names, strict=True):
                    if gradient is not None:
                        changes[c, o] += (gradient * _component(model.components[site], c)).sum()
        torch.testing.assert_close(found[row], changes.square().mean(1).sqrt(), rtol=1e-9, atol=1e-9)


def test_parts_of_a_fused_matrix_add_up_to_the_whole():
    """Components that are the same matrix, once as a whole and once in parts, are attributed the same."""
    network_ = network("fused rows")
    whole = AttributedModel(network_, ["in_proj"], 3, rank=2).double()
    split = AttributedModel(network_, ["in_proj[q]", "in_proj[8:24]"], 3, rank=2).double()
    with torch.no_grad():
        for name, rows in (("in_proj[q]", slice(0, 8)), ("in_proj[8:24]", slice(8, 24))):
            split.components[name].V.copy_(whole.components["in_proj"].V)
            split.components[name].U.copy_(whole.components["in_proj"].U[..., rows])
    batch = example("fused rows", double=True)
    found, wanted = (model.attributed(batch).scores for model in (split, whole))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert wanted.abs().min() > 0


@pytest.mark.parametrize("name", [*PER_EXAMPLE, "overwritten input", "fused rows", "tied embedding"])
def test_a_step_on_any_network(name):
    module = AttributionDecomposition(network(name), list(ZOO[name].sites), 4, k=1.0, call=call_of(name))
    batch = example(name)
    module.check_wrapping(batch)
    loss, terms = module.objective(batch, Noise((0,), torch.device("cpu")))
    loss.backward()
    assert all(term.isfinite() for term in terms.values())
    assert any(parameter.grad.abs().max() > 0 for parameter in module.model.components.parameters())
    assert isinstance(module.form_of(batch), AttributedForm)


def test_sites_of_other_positions_than_the_output_are_refused():
    with pytest.raises(UsageError, match=r"'up' has positions \[4, 5\], the output has \[4\].*method: spd"):
        _model("pooled head").attributed(example("pooled head", double=True))
