"""Text that is tokenised once, into files that are looked at without being read into memory."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from spd_lightning.data.corpus import Corpus
from spd_lightning.data.tokenizer import TextTokenizer
from spd_lightning.errors import UsageError
from spd_lightning.files.progress import progress
from spd_lightning.files.tensors import read_safetensors
from spd_lightning.files.whole import cache_folder, made_by_one, written_whole

FORMAT = 1
CHARACTERS, DOCUMENTS = 2**22, 2**12
"""How much text is tokenised at a time, and how many documents of it at most."""


@dataclass(frozen=True)
class TokenFile:
    """The tokens of a corpus, document after document, each with the token between documents at its end.

    Attributes:
        path: the numbers of the tokens, unsigned whole numbers of 16 or 32 bits and nothing else.
        kind: their type.
        ends: where each document ends, ``[documents]``.
        digests: of each document's text, ``[documents]``.
    """

    path: Path
    kind: type[np.unsignedinteger]
    ends: NDArray[np.int64]
    digests: NDArray[np.int64]

    @property
    def fingerprint(self) -> str:
        """Hash of corpus and tokenizer."""
        return self.path.stem

    def between(self, first: int, last: int) -> NDArray[np.int64]:
        """Tokens ``first`` to ``last - 1``."""
        # mapped anew each time: kept, a map would be copied whole into processes that fetch examples
        return np.memmap(self.path, self.kind, "r")[first:last].astype(np.int64)


def token_file(corpus: Corpus, tokenizer: TextTokenizer) -> TokenFile:
    """The tokens of a corpus; they are made once and kept in the cache under a hash of corpus and tokenizer.

    Args:
        corpus: the text.
        tokenizer: what it is turned into tokens with.

    Raises:
        UsageError: if there is no text, or it cannot be read, or the cache cannot be written.
    """
    known = json.dumps([FORMAT, corpus.fingerprint(), tokenizer.fingerprint])
    kind = np.uint16 if tokenizer.size <= 2**16 else np.uint32
    path = cache_folder() / "tokens" / f"{hashlib.sha256(known.encode()).hexdigest()[:24]}.bin"
    with made_by_one(path):
        found = _kept(path, kind)
        return _made(path, kind, corpus, tokenizer) if found is None else found


def _kept(path: Path, kind: type[np.unsignedinteger]) -> TokenFile | None:
    """What was made before, unless a part of it is missing or damaged."""
    try:
        index = read_safetensors(path.with_suffix(".safetensors"), "index of tokens")
        found = TokenFile(path, kind, index["ends"].numpy(), index["digests"].numpy())
        whole = path.stat().st_size == found.ends[-1] * np.dtype(kind).itemsize
    except (UsageError, KeyError, IndexError, FileNotFoundError):
        return None
    return found if whole else None


def _made(path: Path, kind: type[np.unsignedinteger], corpus: Corpus, tokenizer: TextTokenizer) -> TokenFile:
    digests = corpus.digests
    if not len(digests):
        raise UsageError("data: sources hold no text; name others")
    with written_whole(path) as aside, aside.open("wb") as file:
        ends = np.cumsum(_write(file, kind, corpus, tokenizer, len(digests)))
    with written_whole(path.with_suffix(".safetensors")) as aside:  # last: without it the tokens are made anew
        save_file({"ends": torch.from_numpy(ends), "digests": torch.from_numpy(digests)}, aside)
    return TokenFile(path, kind, ends, digests)


def _write(
    file: IO[bytes], kind: type[np.unsignedinteger], corpus: Corpus, tokenizer: TextTokenizer, count: int
) -> list[int]:
    """Write the tokens of every document. Returns their numbers."""
    lengths = []
    with progress("Tokenising", total=count) as bar:
        for documents in _portions(corpus.documents()):
            for tokens in tokenizer.encode(documents):
                file.write(np.append(tokens, tokenizer.boundary).astype(kind).tobytes())
                lengths.append(len(tokens) + 1)
            bar.update(len(documents))
    return lengths


def _portions(documents: Iterator[str]) -> Iterator[list[str]]:
    portion: list[str] = []
    size = 0
    for document in documents:
        portion.append(document)
        size += len(document)
        if size >= CHARACTERS or len(portion) >= DOCUMENTS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


class TokenWindows(Dataset[dict[str, Tensor]]):
    """Some documents of a file of tokens, joined and cut into windows.

    Each example is a mapping of ``input_ids`` and ``attention_mask``, both ``[length]`` and of whole numbers. The last
    window is filled up; what fills it has an ``attention_mask`` of 0.

    Args:
        tokens: the file.
        chosen: which documents, ``[documents]``.
        length: tokens in a window.
        filling: the token that the last window is filled up with.
    """

    def __init__(self, tokens: TokenFile, chosen: NDArray[np.bool_], length: int, filling: int) -> None:
        self.tokens, self.length, self.filling = tokens, length, filling
        sizes = np.diff(tokens.ends, prepend=0)[chosen]
        self._starts = tokens.ends[chosen] - sizes
        self._ends = np.cumsum(sizes)

    @property
    def count(self) -> int:
        """Number of tokens."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __len__(self) -> int:
        return -(-self.count // self.length)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no window {index}, there are {len(self)}")
        first = index * self.length
        held = self._between(first, min(first + self.length, self.count))
        ids = torch.full((self.length,), self.filling)
        ids[: len(held)] = torch.from_numpy(held)
        return {"input_ids": ids, "attention_mask": (torch.arange(self.length) < len(held)).long()}

    def _between(self, first: int, last: int) -> NDArray[np.int64]:
        """Tokens of the chosen documents alone, which may lie apart in the file."""
        pieces = []
        while first < last:
            document = int(np.searchsorted(self._ends, first, "right"))
            end = min(last, int(self._ends[document]))
            shift = int(self._starts[document]) - (int(self._ends[document - 1]) if document else 0)
            pieces.append(self.tokens.between(first + shift, end + shift))
            first = end
        return np.concatenate(pieces)
