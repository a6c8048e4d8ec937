"""Text that is read while a run trains on it, and never kept."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from spd_lightning.data.corpus import Corpus, check_download, files_of
from spd_lightning.data.documents import NamedDataSet, TextSource
from spd_lightning.data.keyed import KeyedData, SizedKeyedBatches
from spd_lightning.data.stream import Place, TextStream
from spd_lightning.data.tokenizer import TextTokenizer, read_tokenizer
from spd_lightning.errors import UsageError, check_flag, check_fraction, check_list, check_text, check_whole

KEPT = 8
"""Places that are remembered: the trainer asks for a batch before it has trained on the one before."""


class StreamedText(KeyedData):
    """Windows of tokens from text that is larger than the disk, or that nobody wants twice.

    Documents are read in their order, tokenised as they come, and joined with a token between them; at the end of the
    text reading begins anew. Nothing is shuffled: text that is sorted should be mixed before. Batches are those of
    :class:`TextTokens`. Where a run stands is in its checkpoints; resuming reads the documents before that place once
    more, without tokenising them, and refuses text that has changed. With several processes each reads all of the text
    and takes its rows.

    Args:
        sources: files, patterns or folders, as for ``TextTokens``.
        dataset: name of a data set on the Hugging Face hub, whose part ``train`` is streamed; a configuration follows a
            colon.
        tokenizer: a ``tokenizer.json``, or a folder that holds one.
        length: tokens in a window.
        val_fraction: share of the documents that are held out, by their text.
        val_windows: windows of held-out text that serve for validation and the final scores, from the beginning.
        batch_size: training windows per step, over all processes.
        val_batch_size: largest number of windows per batch of validation, over all processes.
        boundary: the token between documents; ``None`` takes the tokenizer's own that ends a text.
        text_field: the entry or column that is text, where there are several.
        separator: what stands between the documents of a plain file; ``None`` where each file is one document.
        allow_download: whether ``dataset`` may be fetched.

    Raises:
        UsageError: for a value outside its range, and, when the text is needed, for text that cannot be used.
    """

    def __init__(
        self,
        tokenizer: str,
        sources: list[str] | None = None,
        dataset: str | None = None,
        length: int = 128,
        val_fraction: float = 0.01,
        val_windows: int = 256,
        batch_size: int = 32,
        val_batch_size: int = 64,
        boundary: str | None = None,
        text_field: str = "text",
        separator: str | None = None,
        allow_download: bool = False,
    ) -> None:
        super().__init__(seed=None)
        check_list("data: sources", [] if sources is None else sources)
        for name, text in {"tokenizer": tokenizer, "text_field": text_field}.items():
            check_text(f"data: {name}", text)
        for name, given in {"dataset": dataset, "boundary": boundary, "separator": separator}.items():
            if given is not None:
                check_text(f"data: {name}", given)
        check_flag("data: allow_download", allow_download)
        sizes = {"val_windows": val_windows, "batch_size": batch_size, "val_batch_size": val_batch_size}
        for name, size in sizes.items():
            check_whole(f"data: {name}", size, least=1)
        check_whole("data: length", length, least=2)
        check_fraction("data: val_fraction", val_fraction, zero=False)
        self.tokenizer_path, self.sources, self.dataset, self.boundary = (
            tokenizer,
            list(sources or []),
            dataset,
            boundary,
        )
        self.length, self.val_fraction, self.val_windows = length, val_fraction, val_windows
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.text_field, self.separator, self.allow_download = text_field, separator, allow_download
        self._places: dict[int, Place] = {0: Place()}
        self._resumed_size = batch_size
        self._check_choices()

    def _check_choices(self) -> None:
        if not (self.sources or self.dataset):
            raise UsageError("data: sources or dataset must be given: there is no text")
        if self.val_fraction == 1:
            raise UsageError("data: val_fraction must be below 1, or nothing is left to train on")
        check_download(self.dataset, self.allow_download)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """Read from its file."""
        return read_tokenizer(self.tokenizer_path, self.boundary)

    @cached_property
    def stream(self) -> TextStream:
        """The text."""
        found: list[TextSource] = files_of(self.sources, self.text_field, self.separator)
        if self.dataset is not None:
            found.append(NamedDataSet(self.dataset, self.text_field, streaming=True))
        return TextStream(Corpus(found), self.tokenizer, self.length, self.val_fraction)

    @cached_property
    def held(self) -> Tensor:
        """Windows of held-out text, ``[windows, length]``."""
        windows = self.stream.held_windows(self.val_windows)
        if not len(windows):
            raise UsageError(
                f"data: val_fraction is {self.val_fraction}, which holds out less than one window; raise it"
            )
        return windows

    def prepare_data(self) -> None:
        """Refuse a target that does not take these tokens, and text without anything to hold out."""
        target = getattr(self.trainer.lightning_module, "target", None) if self.trainer else None
        if target is not None:
            self.tokenizer.check_fits(target, self.length)
        assert len(self.held)

    def train_dataloader(self) -> "_Endless":
        """Endless training batches that begin at the first one not yet trained on."""
        return _Endless(self)

    def val_dataloader(self) -> SizedKeyedBatches:
        """The held-out windows."""
        count = -(-len(self.held) // self.val_batch_size)
        edges = [len(self.held) * batch // count for batch in range(count + 1)]

        def made(number: int) -> dict[str, Tensor]:
            windows = self.held[edges[number] : edges[number + 1]]
            return _batch(windows[self._rows(len(windows))])

        return SizedKeyedBatches(made, count)

    def test_dataloader(self) -> SizedKeyedBatches:
        """The held-out windows."""
        return self.val_dataloader()

    def predict_dataloader(self) -> SizedKeyedBatches:
        """The held-out windows."""
        return self.val_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands behind the batches that were trained on, and their number."""
        done = self._batches_done()
        return {"batches": done, "batch_size": self.batch_size, "place": self._places[done].state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        try:
            self._places = {int(state_dict["batches"]): Place(**state_dict["place"])}
            self._resumed_size = int(state_dict["batch_size"])
        except (KeyError, TypeError, ValueError):
            raise UsageError("the checkpoint is damaged: it does not say where the stream of text stands") from None

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """Batches from the first one not yet trained on; of each this process's rows."""
        number = self._batches_done()
        if number not in self._places or self._resumed_size != self.batch_size:
            raise UsageError(
                f"data: the checkpoint stands behind batch {max(self._places)} of {self._resumed_size} windows; resume "
                "with that batch_size and the same trainer.accumulate_grad_batches"
            )
        for tokens, place in self.stream.batches(self.batch_size, self._places[number]):
            number += 1
            self._places[number] = place
            self._places.pop(number - KEPT, None)
            yield _batch(tokens[self._rows(self.batch_size)])


class _Endless:
    """Training batches, found when iteration begins."""

    def __init__(self, data: StreamedText) -> None:
        self.data = data

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self.data.batches()


def _batch(windows: Tensor) -> dict[str, Tensor]:
    return {"input_ids": windows, "attention_mask": torch.ones_like(windows)}
