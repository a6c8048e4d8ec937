"""Small language models: trained once on the text that is given, and on no other."""

import math

import pytest
import torch

from spd_lightning import MLP, LanguageModel, LanguageModelTraining, TextTokens, UsageError
from spd_lightning.files.describe import describe, rebuilt
from spd_lightning.targets.language_model import next_token_loss
from tests.data.texts import documents, folder_of

SIZES = {"vocabulary": 300, "length": 16, "width": 16, "layers": 1, "heads": 2}


@pytest.fixture
def text(tmp_path):
    """Tokens of a small corpus."""

    def make(**options):
        sources = options.pop("sources", None) or [folder_of(tmp_path / "texts")]
        settings = {"sources": sources, "vocabulary": 300, "length": 16, "val_fraction": 0.3, "batch_size": 4}
        return TextTokens(**settings | options)

    return make


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_it_learns_the_text_it_is_shown(family, text, capsys):
    network, data = LanguageModel(family, **SIZES), text()
    recipe = LanguageModelTraining(data, steps=40, batch_size=16, lr=1e-2)
    recipe.prepare(network)

    held = recipe.held_out_loss(network)
    assert held < math.log(300) - 1
    assert f"loss on held-out text is {held:.3f} nats a token (uniform guesses: 5.704)" in capsys.readouterr().err
    assert not network.training
    assert LanguageModelTraining(text(val_fraction=0.0), steps=1).held_out_loss(network) is None


def test_its_losses_are_kept_beside_the_weights(text):
    data, options = text(), {"steps": 25, "batch_size": 4, "lr": 1e-2}
    first, again = (LanguageModelTraining(data, **options) for _ in range(2))
    for recipe in (first, again):
        recipe.prepare(LanguageModel("gpt2", **SIZES))
    assert list(first.curve) == list(range(25))
    assert first.curve[0] == pytest.approx(math.log(300), abs=0.3)
    assert sum(list(first.curve.values())[-5:]) < sum(list(first.curve.values())[:5]) - 1
    assert again.curve == pytest.approx(first.curve)


def test_about_two_hundred_losses_are_kept_of_a_long_training(text):
    recipe = LanguageModelTraining(text(), steps=450, batch_size=1)
    recipe.prepare(LanguageModel("gpt2", **SIZES | {"width": 2, "heads": 1}))
    assert list(recipe.curve) == [*range(0, 450, 2), 449]


def test_weights_that_were_cached_without_losses_are_taken(text, monkeypatch):
    original = LanguageModelTraining._train

    def without(self, network):
        return {name: tensor for name, tensor in original(self, network).items() if ":" not in name}

    monkeypatch.setattr(LanguageModelTraining, "_train", without)
    recipe = LanguageModelTraining(text(), steps=2, batch_size=4)
    recipe.prepare(LanguageModel("gpt2", **SIZES))
    assert recipe.curve == {}


def test_it_is_trained_once_and_again_for_other_text_or_another_recipe(text, tmp_path, monkeypatch):
    trained = []
    original = LanguageModelTraining._train
    monkeypatch.setattr(LanguageModelTraining, "_train", lambda *given: trained.append(1) or original(*given))

    def prepared(data, **options):
        network = LanguageModel("gpt2", **SIZES)
        LanguageModelTraining(data, **{"steps": 2, "batch_size": 4} | options).prepare(network)
        return network.state_dict()

    first, again = prepared(text()), prepared(text(batch_size=8, seed=3))
    assert len(trained) == 1
    assert all(torch.equal(first[name], again[name]) for name in first)
    prepared(text(), seed=1)
    prepared(text(), beta2=0.95)
    prepared(text(val_fraction=0.5))
    prepared(text(sources=[folder_of(tmp_path / "other", documents(seed=1))]))
    assert len(trained) == 5


def test_the_loss_is_that_of_the_next_token_where_it_counts():
    network = LanguageModel("gpt2", **SIZES)
    ids = torch.randint(300, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(6) < torch.tensor([6, 3])[:, None]).long()
    logits = network(ids, mask).logits
    wanted = [
        -logits[row, place].log_softmax(-1)[ids[row, place + 1]]
        for row, end in ((0, 5), (1, 2))
        for place in range(end)
    ]

    total, count = next_token_loss(network, {"input_ids": ids, "attention_mask": mask})
    torch.testing.assert_close(total, torch.stack(wanted).sum())
    assert count == 7


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_its_weights_are_drawn_and_its_description_rebuilds_it(family):
    network = LanguageModel(family, **SIZES)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    again = rebuilt(describe(network), torch.nn.Module, "target")
    for drawn in (network, again):
        torch.manual_seed(4)
        drawn.reset_parameters()
    (matrix,) = [name for name in before if name.endswith(("h.0.mlp.c_fc.weight", "0.mlp.up_proj.weight"))]
    parameters = sum(parameter.numel() for parameter in network.parameters())

    assert not torch.equal(network.state_dict()[matrix], before[matrix])
    assert torch.equal(network.state_dict()[matrix], again.state_dict()[matrix])
    assert network.lm_head.weight.data_ptr() != before["lm_head.weight"].data_ptr()
    assert parameters / 1.5 <= LanguageModel.declared_size(family, **SIZES) <= 1.1 * parameters


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"family": "gpt5"}, "family must be one of 'gpt2', 'llama'"),
        ({"vocabulary": 0}, "vocabulary must be at least 1"),
        ({"heads": 3}, "width must be a multiple of twice the heads, got 16 and 3"),
        ({"layers": 1.5}, "layers must be a whole number"),
    ],
)
def test_sizes_that_make_no_model_are_refused(sizes, told):
    with pytest.raises(UsageError, match=f"target: {told}"):
        LanguageModel(**SIZES | sizes)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beta1": 1.0}, "beta1 must be below 1"),
        ({"warmup_fraction": -0.1}, "warmup_fraction must lie in"),
        ({"steps": 0}, "steps and batch_size must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(text, options, told):
    with pytest.raises(UsageError, match=f"recipe: {told}"):
        LanguageModelTraining(text(), **options)


def test_networks_that_do_not_fit_are_refused_before_they_are_trained(text):
    recipe = LanguageModelTraining(text(), steps=1)
    with pytest.raises(UsageError, match="trains a LanguageModel, not a MLP; use recipe: null"):
        recipe.prepare(MLP([2, 2]))
    with pytest.raises(UsageError, match="the tokenizer has 300 tokens, but the target's vocabulary 200"):
        recipe.prepare(LanguageModel(**SIZES | {"vocabulary": 200}))
    with pytest.raises(UsageError, match="length is 16, but the target has 8 positions"):
        recipe.prepare(LanguageModel(**SIZES | {"length": 8}))
