"""Text that is never kept: the same windows as text that is, left and taken up again at any batch."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback

from spd_lightning import KeywordCall, LanguageModel, StochasticDecomposition, StreamedText, UsageError
from spd_lightning.data.corpus import digest
from spd_lightning.data.stream import Place
from tests.data.texts import documents, folder_of, word_tokenizer
from tests.methods.tiny import fit

LENGTH, SIZE = 16, 4


@pytest.fixture
def stream(tmp_path):
    """Builds a stream of a small corpus in files."""
    words = word_tokenizer(tmp_path / "words")

    def text(texts=None, **options):
        folder = tmp_path / f"texts{0 if texts is None else hash(tuple(texts))}"
        settings = {"sources": [folder_of(folder, texts)], "length": LENGTH, "val_fraction": 0.3, "batch_size": SIZE}
        return StreamedText(words, **settings | options)

    return text


def _first(data, count):
    batches = iter(data.train_dataloader())
    return [next(batches)["input_ids"] for _ in range(count)]


def test_windows_are_those_of_text_that_is_kept(stream, make):
    kept = make(tokenizer=stream().tokenizer_path)
    windows = kept.windows()
    whole = len(windows) // SIZE
    found = torch.cat(_first(stream(), whole))
    expected = torch.stack([windows[number]["input_ids"] for number in range(whole * SIZE)])
    assert torch.equal(found, expected)
    held = kept.windows(held=True)
    for number, window in enumerate(stream().held):
        assert torch.equal(window, held[number]["input_ids"])
    assert len(stream().held) in (len(held) - 1, len(held))  # a last window that is not full is left out
    assert len(stream(val_windows=2).held) == 2


def test_reading_begins_again_where_the_text_ends(stream):
    data = stream()
    trained = [text for text in documents() if digest(text) >= 0.3 * 2.0**63]
    once = torch.cat(data.stream._tokens(trained))
    count = 3 * len(once) // (SIZE * LENGTH)
    found = torch.cat(_first(data, count)).flatten()
    assert torch.equal(found, once.repeat(4)[: len(found)])


@pytest.mark.parametrize("done", [1, 3, 7, 40])
def test_every_place_leads_on_to_the_same_batches(stream, done):
    straight = _first(stream(), done + 5)
    place = Place()
    batches = stream().stream.batches(SIZE, place)
    for _ in range(done):
        _, place = next(batches)
    state = json.loads(json.dumps({**place.state(), "waiting": place.waiting.tolist()}))
    again = stream().stream.batches(SIZE, Place(**{**state, "waiting": torch.tensor(state["waiting"])}))
    for expected in straight[done:]:
        assert torch.equal(next(again)[0], expected)


def test_processes_take_rows_of_the_same_batches(stream):
    whole = _first(stream(), 5)
    parts = []
    for rank in range(2):
        data = stream()
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, global_step=0, accumulate_grad_batches=1)
        parts.append(_first(data, 5))
    for expected, one, other in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([one, other]), expected)


def _module():
    torch.manual_seed(0)
    network = LanguageModel(vocabulary=130, length=LENGTH, width=8, layers=1, heads=2)
    call = KeywordCall(["input_ids"], weights="attention_mask", output="logits")
    return StochasticDecomposition(network, {"transformer.h.0.mlp.c_*": 3}, call=call)


class Saved(Callback):
    """Saves the fourth step, when the fifth batch has been asked for already."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 4:
            trainer.save_checkpoint(self.path)


def test_a_resumed_run_sees_the_batches_that_it_would_have_seen(stream, tmp_path):
    straight, resumed = _module(), _module()
    fit(straight, stream(), tmp_path, max_steps=7, callbacks=[Saved(tmp_path / "four.ckpt")])
    fit(resumed, stream(), tmp_path, ckpt_path=tmp_path / "four.ckpt", max_steps=7)
    found, expected = resumed.state_dict(), straight.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    start = _module().state_dict()
    assert any(not torch.equal(found[name], start[name]) for name in start)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"texts": documents(seed=1)}, r"the first \d+ documents are not those that the checkpoint was trained on"),
        ({"texts": documents()[:12]}, r"the first \d+ documents are not those"),
        ({"batch_size": 2}, "the checkpoint stands behind batch 4 of 4 windows; resume with that batch_size"),
    ],
)
def test_what_cannot_be_resumed_is_refused(changed, message, stream, tmp_path):
    trainer = fit(_module(), stream(), tmp_path, max_steps=4)
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    with pytest.raises(UsageError, match=message):
        fit(_module(), stream(**changed), tmp_path, ckpt_path=tmp_path / "four.ckpt", max_steps=7)


@pytest.mark.parametrize("state", [{}, {"batches": 1, "batch_size": 4, "place": {"somewhere": 3}}, {"batches": "x"}])
def test_a_damaged_place_is_told(state, stream):
    with pytest.raises(UsageError, match="does not say where the stream of text stands"):
        stream().load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": None}, "data: sources or dataset must be given"),
        ({"dataset": "some/name"}, "is a name on the Hugging Face hub; set allow_download: true"),
        ({"val_fraction": 1.0}, "data: val_fraction must be below 1"),
        ({"val_fraction": 0.0}, "data: val_fraction must"),
        ({"val_windows": 0}, "data: val_windows must be at least 1"),
        ({"length": 1}, "data: length must be at least 2"),
    ],
)
def test_values_out_of_range_are_refused(options, message, stream):
    with pytest.raises(UsageError, match=message):
        stream(**options)


def test_text_without_anything_to_hold_out_or_to_train_on_is_refused(stream):
    one = documents()[:1]
    out, trained = (0.999, 1e-6)
    with pytest.raises(UsageError, match="holds out less than one window; raise it"):
        assert len(stream(one, val_fraction=trained).held)
    with pytest.raises(UsageError, match="no document to train on"):
        _first(stream(one, val_fraction=out), 1)


def test_a_target_with_too_few_positions_is_refused(stream, tmp_path):
    with pytest.raises(UsageError, match="data: length is 32, but the target has 16 positions"):
        fit(_module(), stream(length=32), tmp_path)
