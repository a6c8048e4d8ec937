"""A small corpus, and tokenizers for it."""

import random
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["the", "cat", "dog", "saw", "a", "red", "house", "and", "ran", "home", "quickly", "while", "rain", "fell"]


def documents(count=30, seed=0):
    """Sentences that differ."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(10, 60))) + f" {number}." for number in range(count)]


def folder_of(path: Path, texts=None) -> str:
    """A folder with a file for each document."""
    path.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(documents() if texts is None else texts):
        (path / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return str(path)


def word_tokenizer(folder: Path, extra=0, boundary="</s>") -> str:
    """A tokenizer of whole words, saved where ``transformers`` would."""
    names = ["<unk>", boundary, *WORDS, *map(str, range(100)), ".", *(f"extra{number}" for number in range(extra))]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([boundary])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)
