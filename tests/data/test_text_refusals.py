"""Text, tokenizers and settings that cannot be used: one line each."""

import sys

import pytest

from spd_lightning import UsageError


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sources": None}, "sources, standard_library or dataset must be given"),
        ({"sources": "text.txt"}, "sources must be a list"),
        ({"tokenizer": None}, "either tokenizer or vocabulary must be given"),
        ({"vocabulary": 300, "tokenizer": "x"}, "either tokenizer or vocabulary must be given"),
        ({"vocabulary": 256}, "vocabulary must be at least 257, got 256"),
        ({"vocabulary": 300, "boundary": "x"}, "boundary is a token of a tokenizer that is given"),
        ({"length": 1}, "length must be at least 2, got 1"),
        ({"val_fraction": 1.0}, "val_fraction must be below 1"),
        ({"separator": ""}, "separator must be text, got none"),
        ({"dataset": "owner/name"}, "'owner/name' is a name on the Hugging Face hub; set allow_download: true"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"allow_download": 1}, "allow_download must be true or false"),
    ],
)
def test_values_that_make_no_sense_are_refused_before_anything_is_read(make, options, told, cache):
    with pytest.raises(UsageError, match=f"^data: .*{told}"):
        make(**options)
    assert not cache.exists()


def test_text_that_cannot_be_used_is_named(make, tmp_path):
    def told(**options):
        with pytest.raises(UsageError, match=r"^data: ") as caught:
            make(**options).windows()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def file(name, content):
        (tmp_path / name).write_bytes(content)
        return [str(tmp_path / name)]

    assert "'nowhere/*.txt' matches no file" in told(sources=["nowhere/*.txt"])
    assert "matches no file" in told(sources=["x" * 6000])
    assert "byte 4 of" in told(sources=file("latin.txt", b"cafe\xe9"), val_fraction=0.0)
    assert "byte 14 of" in told(sources=file("latin.jsonl", b'{"text": "a"}\n\xe9\n'))
    assert "line 2 of" in told(sources=file("bad.jsonl", b'{"text": "a"}\n{"txt": "b"}\n'))
    assert "line 1 of" in told(sources=file("number.jsonl", b"5"))
    assert "is no table with a column 'text'" in told(sources=file("bad.parquet", b"nothing"))
    assert "sources hold no text" in told(sources=file("empty.txt", b" \n"))
    assert "has 4 tokens, less than one window of length 16" in told(
        sources=file("a.txt", b"the cat ."), val_fraction=0
    )
    assert "the text is one document" in told(sources=file("b.txt", b"the cat " * 50))
    with pytest.raises(UsageError, match="batch_size is 99, but train holds"):
        make(batch_size=99).prepare_data()
    assert "is no file or folder" in told(tokenizer="nowhere")
    assert "a folder without tokenizer.json" in told(tokenizer=str(tmp_path))
    assert "cannot be read" in told(tokenizer=file("bad.json", b"{}")[0])


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("tokenizers", {}),
        ("pyarrow", {"sources": ["t.parquet"], "vocabulary": 300}),
        ("datasets", {"dataset": "a/b", "allow_download": True, "vocabulary": 300}),
    ],
)
def test_a_missing_extra_is_told(make, tmp_path, monkeypatch, package, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.parquet").touch()
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(UsageError, match=rf"^data: .*needs {package}; in the clone: pip install -e '.\[lm\]'"):
        make(**options).windows()
