"""What a user does with a decomposition in a notebook, and what is said of what cannot be done."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from spd_lightning import DecomposedModel, KeywordCall, StochasticDecomposition, UsageError
from spd_lightning.model import SiteMask


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()


@pytest.fixture
def model(network):
    return DecomposedModel(network, {"0": 5, "2": 7}).double()


@pytest.fixture
def batch():
    return torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def _removed_by_hand(model, network, batch, site, numbers):
    layer, parts = network[int(site)], model.components[site]
    weight = layer.weight - sum(torch.outer(parts.U[c], parts.V[:, c]) for c in numbers)
    before = network[:2](batch) if site == "2" else batch
    after = nn.functional.linear(before, weight, layer.bias)
    return after if site == "2" else network[1:](after)


@pytest.mark.parametrize("site", ["0", "2"])
def test_ablated_components_are_taken_away_from_the_weights(model, network, batch, site):
    wanted = _removed_by_hand(model, network, batch, site, [1, 3])

    torch.testing.assert_close(model(batch, ablated={site: [1, 3]}), wanted)
    torch.testing.assert_close(model(batch, ablated={site: np.array([1, 3])}), wanted)
    with model.ablated({site: [1, 3]}) as same:
        torch.testing.assert_close(model(batch), wanted)
    assert same is model
    torch.testing.assert_close(model(batch, ablated={site: 1}), _removed_by_hand(model, network, batch, site, [1]))


def _ablated(model, components, batch):
    with model.ablated(components):
        return model(batch)


def test_a_context_ends_even_with_an_error_and_contexts_nest(model, batch):
    before = model(batch)

    with model.ablated({"0": [0]}):
        with model.ablated({}):
            assert torch.equal(model(batch), model.target(batch)), "nothing is taken away"
        assert not torch.equal(model(batch), model.target(batch))
    with pytest.raises(UsageError):
        _ablated(model, {"0": [9]}, batch)

    assert torch.equal(model(batch), before)


@pytest.mark.parametrize(
    ("ablated", "said"),
    [
        ({"1": [0]}, "ablated: there is no site '1'; the sites are 0, 2"),
        ({"0": [5]}, "ablated: '0': each must be at most 4, got 5"),
        ({"0": [-1]}, "ablated: '0': each must be at least 0, got -1"),
        ({"0": [0.5]}, "ablated: '0': each must be a whole number, got 0.5"),
    ],
)
def test_what_cannot_be_ablated_is_named(model, batch, ablated, said):
    with pytest.raises(UsageError, match=said):
        model(batch, ablated=ablated)


@pytest.mark.parametrize("made", [np.asarray, torch.Tensor.tolist, torch.Tensor.bool, torch.Tensor.int])
def test_numbers_of_any_kind_are_masks(model, batch, made):
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)

    found = model.masked(batch, {"0": made(mask)}).output

    assert torch.equal(found, model.masked(batch, {"0": SiteMask(mask)}).output)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"0": torch.ones(4)}, r"masks: '0' has 5 components, got a mask of shape \[4\]"),
        ({"0": torch.ones(3, 5)}, r"masks: '0': its components read \[8, 5\], got a mask of shape \[3, 5\]"),
        ({"0": torch.ones(2, 8, 5)}, r"masks: '0': its components read \[8, 5\], got a mask of shape \[2, 8, 5\]"),
        ({"fc": torch.ones(5)}, "masks: there is no site 'fc'; the sites are 0, 2"),
        ({"0": "all"}, "masks: '0' must be a tensor, an array or a SiteMask, got a str"),
        ({"0": object()}, "masks: '0' must be a tensor, an array or a SiteMask, got a object"),
    ],
)
def test_masks_that_do_not_fit_are_named_with_their_site(model, batch, masks, said):
    with pytest.raises(UsageError, match=said):
        model.masked(batch, masks)


@pytest.mark.parametrize("cls", [DecomposedModel, StochasticDecomposition])
def test_sites_that_are_no_mapping_are_refused_with_an_example(network, cls):
    with pytest.raises(UsageError, match="sites must map patterns to numbers of components"):
        cls(network, ["0"])


def test_a_summary_says_what_is_there(model):
    first, *lines = model.summary().splitlines()

    assert first.split() == ["site", "kind", "in", "out", "C", "parameters"]
    assert lines[0].split() == ["0", "linear", "4", "6", "5", str(5 * (4 + 6))]
    assert lines[1].split() == ["2", "linear", "6", "3", "7", str(7 * (6 + 3))]
    assert lines[-1].split() == ["target", "51", "parameters,", "frozen"]
    assert repr(model).startswith("DecomposedModel of Sequential\n" + first)


def test_sites_are_what_the_name_says(network):
    assert DecomposedModel(network, {"[02]": 5}).sites == {"0": 5, "2": 5}


def test_the_target_itself_runs_without_components_and_is_then_as_it_was(model, network, batch):
    before = network(batch)
    with model.without({"0": [1, 3], "2": 4}) as same:
        assert same is network
        torch.testing.assert_close(network(batch), model(batch, ablated={"0": [1, 3], "2": 4}))
        torch.testing.assert_close(network(batch[:2]), model(batch[:2], ablated={"0": [1, 3], "2": 4}))
    assert torch.equal(network(batch), before)
    with pytest.raises(UsageError, match="ablated: there is no site 'x'"), model.without({"x": [0]}):
        pass


def test_a_language_model_generates_without_components():
    """Token by token with its cache: the same as asking the decomposition anew for every token."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=17, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=None)
    call = KeywordCall(["input_ids", "attention_mask"], weights="attention_mask", output="logits")
    model = DecomposedModel(GPT2LMHeadModel(config).eval(), {"transformer.h.*.mlp.c_*": 6}, call)
    site, ids = "transformer.h.1.mlp.c_fc", torch.tensor([[3, 7, 1, 12]])
    arguments = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    with model.without({site: range(model.components[site].n_components)}) as network:
        found = network.generate(ids, attention_mask=torch.ones_like(ids), **arguments)
    wanted = ids
    for _ in range(5):
        batch = {"input_ids": wanted, "attention_mask": torch.ones_like(wanted)}
        logits = model(batch, ablated={site: range(model.components[site].n_components)})
        wanted = torch.cat([wanted, logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(found, wanted)
