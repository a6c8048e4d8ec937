"""The fast form of a batch equals the plain one, in value and gradient."""

import pytest
import torch

from spd_lightning import AttributedModel, ResidualMLP, UsageError
from spd_lightning.functional.weights import EVEN
from spd_lightning.model import AttributedForm, AttributedPass
from tests.comparison import assert_same_with_gradients
from tests.model.attributed import randomised, residual, toy


def _forms(model, x, mask=None):
    forms = AttributedPass(model, x), AttributedForm(model, x)
    if mask is not None:
        for form in forms:
            form.choose(mask)
    return forms


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("leading", [(6,), (2, 3)])
def test_attributions_and_clean_pass_are_the_same(n_layers, leading):
    model, x = residual(n_layers), torch.randn(*leading, 4, dtype=torch.float64)
    fast, plain = _forms(model, x)
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
    fast, plain = _forms(model, x, mask)
    assert_same_with_gradients(fast.sparse.output, plain.sparse.output, model.components.parameters())
    assert list(fast.sparse.kept) == list(plain.sparse.kept) == model.site_names
    for name in model.site_names:
        fast, plain = _forms(model, x, mask)
        factors = [model.components[name].U]
        assert_same_with_gradients(fast.sparse.kept[name], plain.sparse.kept[name], factors)


def test_a_target_without_a_stream_or_attributions_of_components_are_not_its_kind():
    x = torch.randn(6, 4, dtype=torch.float64)
    assert AttributedPass.suits(residual(), x)
    assert not AttributedPass.suits(residual(attribution_source="components"), x)
    assert not AttributedPass.suits(toy(), x)


def test_what_losses_ask_for_is_the_same():
    model, x = residual(2), torch.randn(6, 4, dtype=torch.float64)
    fast, plain = _forms(model, x, (torch.rand(6, 5) < 0.5).double())
    assert list(fast.importance) == list(plain.importance) == model.site_names
    assert_same_with_gradients(fast.faithfulness(), plain.faithfulness(), model.components.parameters())
    for call in model.site_names:
        torch.testing.assert_close(fast.inner(call), plain.inner(call))
        torch.testing.assert_close(fast.clean_output(call), plain.clean_output(call))
        one, other = (form.uniform_mask(call, None, 3, None).components for form in (fast, plain))
        torch.testing.assert_close(one, other)
        assert ((one >= plain.importance[call].lower) & (one <= 1)).all()
    for form in (fast, plain):
        with pytest.raises(UsageError, match="penalties on importances need predicted ones; use method: spd"):
            form.penalty(model.site_names, 1.0, 0.0, EVEN)


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
    fast, plain = _forms(model, x, (torch.rand(6, 5) < 0.5).double())
    torch.testing.assert_close(fast.scores, plain.scores)
    torch.testing.assert_close(fast.sparse.output, plain.sparse.output)


def test_clean_outputs_are_those_of_the_targets_layers():
    model, x = residual(2), torch.randn(6, 4, dtype=torch.float64)
    fast, inputs = AttributedPass(model, x), model.clean(x).site_inputs
    for name, site_input in inputs.items():
        expected = site_input @ model.components[name].site.weight().T
        torch.testing.assert_close(fast.clean_output(name), expected)
        assert not fast.clean_output(name).requires_grad
