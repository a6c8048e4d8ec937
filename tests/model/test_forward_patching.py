import pytest
import torch
from torch import nn

from spd_lightning import UsageError
from spd_lightning.model import DecomposedModel, SiteMask


class Net(nn.Module):
    """Two layers; what else happens in its forward is up to the test."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.fails = False

    def forward(self, x):
        hidden = self.first(x)
        if self.fails:
            raise RuntimeError("broken on purpose")
        return self.second(hidden)


@pytest.fixture
def model():
    return DecomposedModel(Net(), {"*": 5})


@pytest.fixture
def masks(model):
    return {name: SiteMask(torch.rand(5)) for name in model.site_names}


def _patched(model):
    return [name for name, module in model.target.named_modules() if "forward" in vars(module)]


def test_nothing_is_left_behind(model, masks):
    x = torch.rand(6, 3)
    before = model.target(x)
    model.clean(x)
    model.masked(x, masks)
    assert _patched(model) == []
    assert torch.equal(model.target(x), before)


@pytest.mark.parametrize("call", ["clean", "masked"])
def test_nothing_is_left_behind_when_the_target_raises(model, masks, call):
    model.target.fails = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        model.clean(torch.rand(6, 3)) if call == "clean" else model.masked(torch.rand(6, 3), masks)
    assert _patched(model) == []


def test_a_forward_of_the_users_own_survives(model, masks):
    def own(x):
        return torch.zeros(*x.shape[:-1], 4)

    model.target.first.forward = own
    x = torch.rand(6, 3)
    model.clean(x)
    model.masked(x, masks)
    assert vars(model.target.first)["forward"] is own
    assert _patched(model) == ["first"]
    assert torch.equal(model.target(x), model.target.second.bias.expand(6, 2))


def test_hooks_of_the_user_see_the_masked_activations(model, masks):
    seen = []
    model.target.first.register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.rand(6, 3)
    model.masked(x, masks)
    expected = model.components["first"](x, masks["first"].components)
    torch.testing.assert_close(seen, [expected])


def test_a_site_that_is_never_called():
    net = Net()
    net.spare = nn.Linear(3, 3)
    model = DecomposedModel(net, {"*": 5})
    with pytest.raises(UsageError, match="sites: the target's forward never calls 'spare'; leave it out"):
        model.clean(torch.rand(2, 3))
    assert _patched(model) == []


def test_a_site_that_is_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x))

    model = DecomposedModel(Twice(), {"layer": 2})
    with pytest.raises(UsageError, match="sites: the target calls 'layer' more than once in a forward; leave it out"):
        model.clean(torch.rand(2, 3))
    assert _patched(model) == []


def test_an_output_that_is_no_tensor():
    class Pair(Net):
        def forward(self, x):
            return super().forward(x), x

    model = DecomposedModel(Pair(), {"first": 2, "second": 2})
    with pytest.raises(UsageError, match="target: forward must return one tensor, got tuple; wrap the network"):
        model.clean(torch.rand(2, 3))
