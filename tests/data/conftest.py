"""A small corpus of one's own, with a cache of its own."""

import pytest

from spd_lightning import TextTokens
from tests.data.texts import folder_of, word_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def make(tmp_path):
    """Builds tokens of a small corpus in files."""
    sources = [folder_of(tmp_path / "texts")]
    words = word_tokenizer(tmp_path / "words")

    def text(**options):
        settings = {
            "sources": sources,
            "tokenizer": words,
            "length": 16,
            "val_fraction": 0.3,
            "batch_size": 4,
            "seed": 0,
        }
        if "vocabulary" in options:
            settings["tokenizer"] = None
        return TextTokens(**settings | options)

    return text
