"""The fast form of a batch equals the plain one, in value and gradient."""

import pytest
import torch

from spd_lightning import AttributedModel, ResidualMLP, SiteMask
from spd_lightning.model import AttributedPass
from tests.comparison import assert_same_with_gradients
from tests.model.attributed import randomised, residual, toy


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("leading", [(6,), (2, 3)])
def test_attributions_and_clean_pass_are_the_same(n_layers, leading):
    model, x = residual(n_layers), torch.randn(*leading, 4, dtype=torch.float64)
    plain, fast = model.attributed(x), AttributedPass(model, x).attributed()
    torch.testing.assert_close(fast.scores, plain.scores, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fast.clean.output, plain.clean.output)
    assert list(fast.clean.site_inputs) == list(plain.clean.site_inputs)
    for name, site_input in plain.clean.site_inputs.items():
        torch.testing.assert_close(fast.clean.site_inputs[name], site_input)
    assert not any(tensor.requires_grad for tensor in (fast.scores, fast.clean.output))


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_the_sparse_pass_is_the_same_in_value_and_gradient(n_layers):
    model, x = residual(n_layers), torch.randn(6, 4, dtype=torch.float64)
    mask = (torch.rand(6, 5) < 0.5).double()

    def sparse():
        fast_pass = AttributedPass(model, x)
        fast_pass.attributed()
        return fast_pass.sparse(mask)

    fast, plain = sparse(), model.sparse(x, dict.fromkeys(model.site_names, SiteMask(mask)))
    parameters = list(model.components.parameters())
    assert_same_with_gradients(fast.output, plain.output, parameters)
    assert list(fast.site_outputs) == model.site_names
    for name in plain.site_outputs:
        output = model.sparse(x, dict.fromkeys(model.site_names, SiteMask(mask))).site_outputs[name]
        assert_same_with_gradients(sparse().site_outputs[name], output, [model.components[name].U])


def test_a_target_without_a_stream_or_attributions_of_components_are_not_its_kind():
    assert AttributedPass.suits(residual())
    assert not AttributedPass.suits(residual(attribution_source="components"))
    assert not AttributedPass.suits(toy())


class Backwards(ResidualMLP):
    """A residual MLP of one layer whose modules are listed in another order than they are called."""

    def __init__(self) -> None:
        super().__init__(n_features=4, n_layers=1, d_mlp=3, d_embed=6)
        layer = self.layers[0]
        reading = layer.mlp_in
        del layer.mlp_in
        layer.mlp_in = reading


def test_modules_may_be_listed_in_another_order_than_they_are_called():
    model, x = randomised(AttributedModel(Backwards(), ["layers.*.mlp_*"], 5)), torch.randn(6, 4, dtype=torch.float64)
    assert model.site_names == ["layers.0.mlp_out", "layers.0.mlp_in"]
    fast_pass, mask = AttributedPass(model, x), (torch.rand(6, 5) < 0.5).double()
    torch.testing.assert_close(fast_pass.attributed().scores, model.attributed(x).scores)
    plain = model.sparse(x, dict.fromkeys(model.site_names, SiteMask(mask)))
    torch.testing.assert_close(fast_pass.sparse(mask).output, plain.output)


def test_clean_outputs_are_those_of_the_reading_layers():
    model, x = residual(2), torch.randn(6, 4, dtype=torch.float64)
    fast_pass, inputs = AttributedPass(model, x), model.clean(x).site_inputs
    assert list(fast_pass.clean_outputs) == ["layers.0.mlp_in", "layers.1.mlp_in"]
    for name, output in fast_pass.clean_outputs.items():
        torch.testing.assert_close(output, inputs[name] @ model.components[name].site.weight.T)
