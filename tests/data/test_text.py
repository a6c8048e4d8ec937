"""Text as windows of tokens: what they hold, what is held out and what is kept."""

import json
import os
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.data import corpus as corpora
from spd_lightning.data import tokenizer as tokenizers_of_ours
from tests.data.test_feature_batches import trainer_at
from tests.data.texts import documents, folder_of, word_tokenizer


def _joined(windows):
    """All tokens of windows that count."""
    return torch.cat(
        [window["input_ids"][window["attention_mask"] == 1] for window in map(windows.__getitem__, range(len(windows)))]
    )


def _documents_in(data, held=False):
    boundary = data.tokenizer.boundary
    tokens = _joined(data.windows(held)).tolist()
    ends = [place for place, token in enumerate(tokens) if token == boundary]
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [data.tokenizer.decode(tokens[start:end]) for start, end in zip(starts, ends, strict=True)]


def test_windows_hold_every_token_once_and_say_what_is_filling(make):
    data = make(vocabulary=300)
    shapes = {tuple(window[name].shape) for window in map(data.windows().__getitem__, range(3)) for name in window}
    last = data.windows()[len(data.windows()) - 1]
    filled = last["attention_mask"] == 0

    assert sorted(_documents_in(data) + _documents_in(data, held=True)) == sorted(documents())
    assert shapes == {(16,)}
    assert {tensor.dtype for tensor in last.values()} == {torch.int64}
    assert filled.sum() == -data.windows().count % 16
    assert (last["input_ids"][filled] == data.tokenizer.boundary).all()
    with pytest.raises(IndexError):
        data.windows()[len(data.windows())]


def test_documents_are_held_out_by_their_text_alone(make, tmp_path):
    few, many = (set(_documents_in(make(vocabulary=300, val_fraction=share), held=True)) for share in (0.1, 0.5))
    other = make(vocabulary=300, val_fraction=0.5, sources=[folder_of(tmp_path / "other", documents()[::-1])], seed=5)
    inside = set(_documents_in(make(vocabulary=300, val_fraction=0.5)))

    assert 0 < len(few) < len(many) < 30
    assert few < many
    assert set(_documents_in(other, held=True)) == many
    assert not inside & many
    assert make(val_fraction=0.0).windows(held=True) is None


def test_of_few_documents_one_is_held_out_and_never_all():
    digests = np.array([2**62, 2**62 + 1, 2**62], dtype=np.int64)

    assert corpora.held_out(digests, 0.01).tolist() == [True, False, True]
    assert corpora.held_out(digests, 0.99).tolist() == [True, False, True]
    assert corpora.held_out(digests[:1], 0.5).tolist() == [False]
    assert corpora.held_out(digests, 0.0).tolist() == [False, False, False]


def test_text_is_tokenised_once_until_it_changes(make, tmp_path, monkeypatch):
    encoded = []
    original = tokenizers_of_ours.TextTokenizer.encode
    monkeypatch.setattr(
        tokenizers_of_ours.TextTokenizer, "encode", lambda self, texts: encoded.append(1) or original(self, texts)
    )
    first = make().tokens
    os.utime(tmp_path / "texts/000.txt", (1, 1))
    assert make(length=8, val_fraction=0.5).tokens.path == first.path
    assert len(encoded) == 1

    changed = (tmp_path / "texts/000.txt").read_text().replace("e", "a", 1)
    (tmp_path / "texts/000.txt").write_text(changed)
    os.utime(tmp_path / "texts/000.txt", (1, 1))
    assert make().tokens.path != first.path
    assert make(tokenizer=word_tokenizer(tmp_path / "more", extra=1)).tokens.path != first.path
    assert len(encoded) == 3


def test_a_damaged_file_of_tokens_is_made_anew(make):
    whole = make().tokens
    content = whole.path.read_bytes()
    whole.path.write_bytes(content[:-2])

    assert make().tokens.path.read_bytes() == content
    whole.path.with_suffix(".safetensors").write_bytes(b"nothing")
    assert torch.equal(_joined(make().windows()), _joined(make().windows()))
    assert make().tokens.kind is np.uint16


def test_large_vocabularies_take_larger_numbers(make, tmp_path):
    folder = word_tokenizer(tmp_path / "large", extra=2**16)
    (tmp_path / "texts/000.txt").write_text("extra65535 the extra65534")
    data = make(tokenizer=folder)

    assert data.tokens.kind is np.uint32
    assert data.tokens.between(0, 3)[[0, 2]].tolist() == [data.tokenizer.size - 1, data.tokenizer.size - 2]


def test_kinds_of_files_hold_the_same_documents(make, tmp_path):
    texts = documents(8)
    several = tmp_path / "several"
    several.mkdir()
    (several / "a.jsonl").write_text("\n".join(json.dumps({"body": text}) for text in texts) + "\n\n")
    (several / "b.txt").write_text("<eot>".join(texts))
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"body": [*texts, None]}), several / "c.parquet")

    for name in ("a.jsonl", "b.txt", "c.parquet", "*.parquet", ""):
        data = make(sources=[str(several / name)], text_field="body", separator="<eot>", val_fraction=0)
        assert list(data.corpus.documents()) == texts * (1 if name else 3), name


def test_the_standard_library_is_there_and_always_the_same(make):
    library = make(sources=None, standard_library=True).corpus
    names = [source.path.name for source in library.sources]

    assert len(names) > 300
    assert {"argparse.py", "decoder.py"} <= set(names)
    assert not any("site-packages" in str(source.path) or "test" in source.path.parts for source in library.sources)


def test_a_tokenizer_is_trained_once_on_what_is_not_held_out(make, tmp_path, monkeypatch):
    trained = []
    original = tokenizers_of_ours._train
    monkeypatch.setattr(tokenizers_of_ours, "_train", lambda *given: trained.append(1) or original(*given))
    first, again = make(vocabulary=300).tokenizer, make(vocabulary=300, length=8).tokenizer

    assert first.size == 300
    assert first.fingerprint == again.fingerprint != make(vocabulary=310).tokenizer.fingerprint
    assert len(trained) == 2
    (number,) = (first.boundary,)
    assert first.decode([number]) == "<|endoftext|>"
    assert first.decode(first.encode(["naïve ☃"])[0]) == "naïve ☃"


def test_the_boundary_is_the_tokenizer_s_own_or_the_named_one(make, tmp_path):
    folder = word_tokenizer(tmp_path / "own", boundary="<end>")
    with pytest.raises(UsageError, match=r"data: boundary: .*own.* names no token that ends a text"):
        make(tokenizer=folder).windows()
    (tmp_path / "own/tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))

    assert make(tokenizer=folder).tokenizer.boundary == 1
    assert make(tokenizer=f"{folder}/tokenizer.json", boundary="cat").tokenizer.boundary > 1
    with pytest.raises(UsageError, match="data: boundary is '<other>', which"):
        make(boundary="<other>").windows()


def _batches(data, count=6):
    return [batch["input_ids"] for batch in islice(data.train_dataloader(), count)]


def test_batches_go_on_where_they_were_and_are_shared_by_processes(make):
    alone = _batches(make())
    resumed = make(num_workers=1)
    resumed.trainer = trainer_at(global_step=2)
    shares = [make(), make()]
    for rank, share in enumerate(shares):
        share.trainer = trainer_at(rank=rank, processes=2)

    assert torch.equal(torch.stack(_batches(resumed, 4)), torch.stack(alone[2:]))
    for whole, *parts in zip(alone, *map(_batches, shares), strict=True):
        assert torch.equal(torch.cat(parts), whole)
    first = next(iter(make().val_dataloader()))
    assert first["input_ids"].shape == first["attention_mask"].shape == (len(make().windows(held=True)), 16)
    assert torch.equal(next(iter(make().predict_dataloader()))["input_ids"], first["input_ids"])
    held = make().windows(held=True)
    shown = sorted(map(tuple, first["input_ids"].tolist()))
    assert shown == sorted(tuple(held[row]["input_ids"].tolist()) for row in range(len(held)))
    assert not torch.equal(first["input_ids"][0], held[0]["input_ids"])


def test_a_target_that_the_text_does_not_fit_is_refused_first(make):
    data = make()
    data.trainer = SimpleNamespace(lightning_module=SimpleNamespace(target=SimpleNamespace()))
    for sizes, told in [
        ((100, 64), r"data: the tokenizer has 117 tokens, but the target's vocabulary 100; give"),
        ((200, 8), r"data: length is 16, but the target has 8 positions; lower length"),
    ]:
        data.trainer.lightning_module.target.config = SimpleNamespace(
            vocab_size=sizes[0], max_position_embeddings=sizes[1]
        )
        with pytest.raises(UsageError, match=told):
            data.prepare_data()
    data.trainer.lightning_module.target.config = SimpleNamespace(vocab_size=117, max_position_embeddings=16)
    data.prepare_data()


def test_a_data_set_by_name_is_asked_for_only_where_that_is_allowed(make, monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": documents()})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **options: asked.append(given) or rows)

    data = make(sources=None, dataset="owner/name:part", allow_download=True)
    assert not asked
    assert list(data.corpus.documents()) == documents()
    assert asked == [("owner/name", "part")]
    with pytest.raises(UsageError, match="text_field is 'body', but 'owner/name' has text"):
        make(sources=None, dataset="owner/name", allow_download=True, text_field="body").windows()
