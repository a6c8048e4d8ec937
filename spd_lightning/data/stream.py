"""A stream of documents as windows of tokens, which can be left at any batch and taken up again."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Self

import torch
from torch import Tensor

from spd_lightning.data.corpus import Corpus, digest
from spd_lightning.data.tokenizer import TextTokenizer
from spd_lightning.errors import UsageError

TOGETHER = 16
"""Documents that are tokenised at a time."""
NOTHING = torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class Place:
    """Where a stream stands.

    Attributes:
        passes: how often the text has been read to its end.
        documents: how many documents of this pass have been read.
        digest: of their text, each added to that of those before it.
        waiting: tokens that have been read and are in no window yet.
    """

    passes: int = 0
    documents: int = 0
    digest: str = ""
    waiting: Tensor = field(default=NOTHING, compare=False)

    def after(self, documents: list[str], tokens: list[Tensor]) -> Self:
        """The place behind some more documents."""
        known = self.digest
        for document in documents:
            known = hashlib.blake2b((known + document).encode(), digest_size=16).hexdigest()
        waiting = torch.cat([self.waiting, *tokens])
        return replace(self, documents=self.documents + len(documents), digest=known, waiting=waiting)

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {**vars(self), "waiting": self.waiting.clone()}


class TextStream:
    """Documents of a corpus, in its order and from the beginning again, joined and cut into windows.

    Which documents are left out follows from their text alone.

    Args:
        corpus: the text; it is read as it is needed, and never kept.
        tokenizer: what it is turned into tokens with.
        length: tokens in a window.
        held: share of the documents that are held out.
    """

    def __init__(self, corpus: Corpus, tokenizer: TextTokenizer, length: int, held: float) -> None:
        self.corpus, self.tokenizer, self.length = corpus, tokenizer, length
        self._edge = held * 2.0**63

    def batches(self, size: int, place: Place) -> Iterator[tuple[Tensor, Place]]:
        """Windows from a place on, without end, each batch with the place behind it.

        Args:
            size: windows in a batch.
            place: where to begin.

        Yields:
            Tokens ``[size, length]``.

        Raises:
            UsageError: if the text before the place is not what it was, or there is none to read.
        """
        needed = size * self.length
        while True:
            documents, found = self._from(place), False
            while some := list(islice(documents, TOGETHER)):
                trained = [document for document in some if not self._is_held(document)]
                place, found = place.after(some, self._tokens(trained)), found or bool(trained)
                while len(place.waiting) >= needed:
                    tokens, place = place.waiting[:needed], replace(place, waiting=place.waiting[needed:])
                    yield tokens.reshape(size, self.length), place
            if not (found or len(place.waiting)):
                raise UsageError(
                    "data: the text has no document to train on; name other sources, or lower val_fraction"
                )
            place = Place(place.passes + 1, waiting=place.waiting)

    def held_windows(self, count: int) -> Tensor:
        """The first windows of the documents that are held out, ``[windows, length]``; fewer where the text ends."""
        kept = (text for text in self.corpus.documents() if self._is_held(text))
        tokens, needed = NOTHING, count * self.length
        while len(tokens) < needed and (some := list(islice(kept, TOGETHER))):
            tokens = torch.cat([tokens, *self._tokens(some)])
        whole = min(count, len(tokens) // self.length)
        return tokens[: whole * self.length].reshape(whole, self.length)

    def _from(self, place: Place) -> Iterator[str]:
        """The documents behind a place; those before it are read again, to see whether they are what they were."""
        documents, again = self.corpus.documents(), Place()
        while again.documents < place.documents:
            some = list(islice(documents, min(TOGETHER, place.documents - again.documents)))
            if not some:
                break
            again = again.after(some, [])
        if (again.documents, again.digest) != (place.documents, place.digest):
            raise UsageError(
                f"data: the first {place.documents} documents are not those that the checkpoint was trained on; give "
                "the same sources in the same order, or start anew"
            )
        return documents

    def _is_held(self, document: str) -> bool:
        return digest(document) < self._edge

    def _tokens(self, documents: list[str]) -> list[Tensor]:
        end = torch.tensor([self.tokenizer.boundary])
        return [torch.cat([torch.from_numpy(found), end]) for found in self.tokenizer.encode(documents)]
