"""Tokenizers: read from a file, or trained on a corpus once and kept in the cache."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from spd_lightning.data.corpus import Corpus, held_out
from spd_lightning.errors import UsageError, missing_extra
from spd_lightning.files.progress import progress
from spd_lightning.files.whole import cache_folder, is_file, made_by_one, written_whole

END_OF_TEXT = "<|endoftext|>"
"""Stands between documents for tokenizers that are trained here, as in GPT-2."""
BOUNDARIES = ("eos_token", "sep_token")
"""Entries of a saved tokenizer's settings that name what ends a text."""
COMMON_BOUNDARIES = (END_OF_TEXT, "</s>", "[SEP]")
SMALLEST = 257
"""Every byte, and the token between documents."""


class TextTokenizer:
    """Turns text into numbers of tokens.

    Args:
        text: the tokenizer, as ``tokenizers`` writes it.
        origin: its name in messages.
        boundary: the token between documents; ``None`` looks for a common one.
        settings: what is known of its special tokens.
    """

    def __init__(self, text: str, origin: str, boundary: str | None, settings: dict[str, Any]) -> None:
        try:
            self._inner = _library().Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare exceptions
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"data: tokenizer: {origin!r} cannot be read ({reason})") from None
        self._inner.no_truncation()
        self._inner.no_padding()
        numbers = self._inner.get_vocab(with_added_tokens=True)
        self.size = max(numbers.values(), default=0) + 1
        self.boundary = numbers[_boundary(numbers, boundary, settings, origin)]
        self.fingerprint = f"{hashlib.sha256(text.encode()).hexdigest()} {self.boundary}"

    def encode(self, documents: Sequence[str]) -> list[NDArray[np.int64]]:
        """The tokens of documents, in parallel; nothing is put before or after them."""
        encoded = self._inner.encode_batch_fast(list(documents), add_special_tokens=False)
        return [np.array(document.ids, dtype=np.int64) for document in encoded]

    def check_fits(self, network: nn.Module, length: int) -> None:
        """Refuse a network with too few tokens or positions; one without a Hugging Face config is taken as it is.

        Args:
            network: to be trained or taken apart.
            length: tokens in a window.

        Raises:
            UsageError: naming both numbers.
        """
        config = getattr(network, "config", None)
        known, positions = (getattr(config, name, None) for name in ("vocab_size", "max_position_embeddings"))
        if isinstance(known, int) and self.size > known:
            raise UsageError(
                f"data: the tokenizer has {self.size} tokens, but the target's vocabulary {known}; give the "
                "target's own tokenizer, or a vocabulary that fits"
            )
        if isinstance(positions, int) and length > positions:
            raise UsageError(f"data: length is {length}, but the target has {positions} positions; lower length")

    def write(self, folder: Path) -> None:
        """Write the files that ``AutoTokenizer.from_pretrained`` of ``transformers`` reads.

        Args:
            folder: an existing one.
        """
        boundary = self._inner.id_to_token(self.boundary)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": boundary, "bos_token": boundary}
        (folder / "tokenizer.json").write_text(self._inner.to_str(), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        text: str = self._inner.decode(list(tokens), skip_special_tokens=False)
        return text


def read_tokenizer(path: str, boundary: str | None) -> TextTokenizer:
    """Read a tokenizer that ``tokenizers`` or ``transformers`` has saved.

    Args:
        path: a ``tokenizer.json``, or a folder that holds one.
        boundary: the token between documents; ``None`` takes the one that ends a text.

    Raises:
        UsageError: if there is none, it cannot be read, or it lacks that token.
    """
    folder = os.path.isdir(path)
    file = Path(path) / "tokenizer.json" if folder else Path(path)
    if not is_file(file):
        what = "a folder without tokenizer.json" if folder else "no file or folder"
        raise UsageError(
            f"data: tokenizer: {path[:200]!r} is {what}; save one with save_pretrained, or give vocabulary to train one"
        )
    return TextTokenizer(_read(file), path, boundary, _settings(file.with_name("tokenizer_config.json")))


def trained_tokenizer(corpus: Corpus, vocabulary: int, val_fraction: float) -> TextTokenizer:
    """Byte-level pair encoding of a corpus, trained once on what is not held out.

    Args:
        corpus: the text.
        vocabulary: number of tokens, fewer where the text is small.
        val_fraction: share of the documents that are held out.
    """
    known = json.dumps([corpus.fingerprint(), vocabulary, val_fraction, _library().__version__])
    path = cache_folder() / "tokenizers" / f"{hashlib.sha256(known.encode()).hexdigest()[:24]}.json"
    with made_by_one(path):
        if not is_file(path):
            _train(corpus, vocabulary, val_fraction, path)
    return TextTokenizer(_read(path), str(path), END_OF_TEXT, {})


def _train(corpus: Corpus, vocabulary: int, val_fraction: float, path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    outside = held_out(corpus.digests, val_fraction)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bar = progress("Training the tokenizer", corpus.documents(), len(outside))
    tokenizer.train_from_iterator((text for text, out in zip(bar, outside, strict=True) if not out), trainer)
    with written_whole(path) as aside:
        aside.write_text(tokenizer.to_str(), encoding="utf-8")


def _library() -> Any:
    """The package ``tokenizers``."""
    # it would print a warning in every process that fetches examples, none of which tokenises
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import tokenizers
    except ImportError:
        raise missing_extra("data: TextTokens", "tokenizers", "lm") from None
    return tokenizers


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"data: tokenizer: {str(file)!r} cannot be read ({error})") from None


def _settings(file: Path) -> dict[str, Any]:
    """What ``transformers`` saves beside a tokenizer; nothing if it is not there."""
    try:
        found = json.loads(_read(file)) if is_file(file) else {}
    except ValueError:
        raise UsageError(f"data: tokenizer: {str(file)!r} is damaged; save the tokenizer again") from None
    return found if isinstance(found, dict) else {}


def _boundary(numbers: dict[str, int], wanted: str | None, settings: dict[str, Any], origin: str) -> str:
    if wanted is not None:
        if wanted not in numbers:
            raise UsageError(f"data: boundary is {wanted!r}, which {origin!r} does not have; name a token of it")
        return wanted
    named = [settings.get(name) for name in BOUNDARIES]
    named = [token.get("content") if isinstance(token, dict) else token for token in named]
    found = next((token for token in (*named, *COMMON_BOUNDARIES) if isinstance(token, str) and token in numbers), None)
    if found is None:
        raise UsageError(f"data: boundary: {origin!r} names no token that ends a text; name one that it has")
    return found
