"""What components of a language model go with, and what it writes with them."""

import json

import pytest
import torch

from spd_lightning import LanguageModel, SharedMLP, StochasticDecomposition, TextTokens, UsageError
from spd_lightning.callbacks import TextSamples, TokenReadings
from spd_lightning.callbacks.text_samples import continued
from spd_lightning.model import KeywordCall, PerSite
from tests.data.texts import folder_of, word_tokenizer
from tests.methods.tiny import expected_notices, features, fit, toy

LENGTH = 12


def _module(importance=None):
    torch.manual_seed(0)
    call = KeywordCall(
        ["input_ids", "attention_mask"], weights="attention_mask", output="logits", labels="input_ids", ahead=1
    )
    return StochasticDecomposition(
        LanguageModel(vocabulary=130, length=LENGTH, width=8, layers=1, heads=2),
        {"transformer.wte": 130, "transformer.h.0.mlp.c_fc": 3},
        call=call,
        importance=importance or (lambda shapes: PerSite(shapes, lambda *sizes: SharedMLP(*sizes, hidden=[4]))),
    )


def _text(tmp_path):
    folder = word_tokenizer(tmp_path / "tokenizer")
    return TextTokens([folder_of(tmp_path / "texts")], tokenizer=folder, length=LENGTH, val_fraction=0.4, batch_size=4)


def _fitted(tmp_path, *callbacks, module=None):
    module = module or _module()
    data = _text(tmp_path)
    trainer = fit(module, data, tmp_path, callbacks=list(callbacks), max_steps=2)
    trainer.limit_test_batches = 1.0
    with expected_notices():
        trainer.test(module, data, verbose=False)
    return trainer, module


class _ByToken(PerSite):
    """Of the embedding component c is important on token c alone; elsewhere nothing is."""

    def forward(self, inner, features):
        found = {call: -torch.ones_like(inner[call]) for call in inner}
        table = features["transformer.wte"]
        for token in range(found["transformer.wte"].shape[-1]):
            found["transformer.wte"][..., token] = 2.0 * (table == self.vectors[token]).all(-1) - 1
        return found


def test_a_component_that_stands_for_a_token_is_named_by_it(tmp_path, capsys):
    module = _module(lambda shapes: _ByToken(shapes, lambda *sizes: SharedMLP(*sizes, hidden=[4])))
    module.model.importance_function.vectors = module.target.transformer.wte.weight.detach().clone()
    trainer, _ = _fitted(tmp_path, TokenReadings(fewest=1, shown=5), module=module)
    found = json.loads(next(tmp_path.rglob("token_readings.json")).read_text())["readings"]
    assert {row["component"] for row in found} > {2, 3, 4}  # the words of the text
    for row in found:
        assert (row["site"], row["side"], row["token"]) == ("transformer.wte", "on", row["component"])
        assert (row["precision"], row["recall"], row["f1"]) == (1, 1, 1)
        assert row["text"] == trainer.datamodule.tokenizer.decode([row["token"]])
    said = capsys.readouterr().out
    assert said.count("on the token") == 5
    assert "100% of its" in said


def test_padding_and_the_end_of_a_window_count_nowhere(tmp_path):
    module = _module(lambda shapes: _ByToken(shapes, lambda *sizes: SharedMLP(*sizes, hidden=[4])))
    module.model.importance_function.vectors = module.target.transformer.wte.weight.detach().clone()
    trainer, _ = _fitted(tmp_path, TokenReadings(fewest=1), module=module)
    found = json.loads(next(tmp_path.rglob("token_readings.json")).read_text())["readings"]
    held = trainer.datamodule.windows(held=True)
    real = torch.cat([window["input_ids"][window["attention_mask"] > 0] for window in held])
    assert {row["component"]: row["firings"] for row in found} == dict(
        zip(*(part.tolist() for part in real.unique(return_counts=True)), strict=True)
    )


def test_batches_without_tokens_are_refused(tmp_path):
    with pytest.raises(UsageError, match="TokenReadings: batches have no entry 'input_ids'"):
        fit(
            toy(),
            features(),
            tmp_path,
            callbacks=[TokenReadings(every_n_validations=1)],
            val_check_interval=2,
            limit_val_batches=1,
        )


def test_the_target_writes_as_it_does_by_itself(tmp_path):
    trainer, module = _fitted(tmp_path, TextSamples(["the cat", "rain"], tokens=20))
    written = next(tmp_path.rglob("text_samples.txt")).read_text().split("--- ")[1::3]
    tokenizer = trainer.datamodule.tokenizer
    for text, prompt in zip(written, ("the cat", "rain"), strict=True):
        ids = torch.tensor([tokenizer.encode([prompt])[0].tolist()])
        with torch.no_grad():
            ids = continued(lambda ids: module.target(input_ids=ids).logits, ids, 20, 0.7, LENGTH)
        assert text.strip() == f"the target, after {prompt!r}\n{tokenizer.decode(ids[0].tolist())}"


def test_samples_are_written_for_the_target_and_on_components(tmp_path):
    _fitted(tmp_path, TextSamples(["the cat"], tokens=5))
    text = next(tmp_path.rglob("text_samples.txt")).read_text()
    for name in ("the target", "all components", "components above 0.1 alone"):
        assert f"--- {name}, after 'the cat'" in text


def test_data_without_a_tokenizer_is_refused_at_the_start(tmp_path):
    with pytest.raises(UsageError, match="TextSamples needs data with a tokenizer"):
        fit(toy(), features(), tmp_path, callbacks=[TextSamples(["the"])])


def test_the_network_sees_the_end_of_a_long_text():
    seen = []

    def logits_of(ids):
        seen.append(ids.tolist())
        return torch.nn.functional.one_hot((ids + 1) % 5, 5) * 1e4

    found = continued(logits_of, torch.tensor([[0, 1]]), 4, 0.7, longest=3)
    assert found.tolist() == [[0, 1, 2, 3, 4, 0]]
    assert seen[-1] == [[2, 3, 4]]
