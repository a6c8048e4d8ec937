"""Text as windows of tokens; a resumed run goes on at the next batch."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from spd_lightning.data.corpus import Corpus, check_download, files_of, held_out, standard_library
from spd_lightning.data.dataset_batches import NumberedBatches
from spd_lightning.data.documents import NamedDataSet, TextSource
from spd_lightning.data.token_files import TokenFile, TokenWindows, token_file
from spd_lightning.data.tokenizer import SMALLEST, TextTokenizer, read_tokenizer, trained_tokenizer
from spd_lightning.errors import UsageError, check_flag, check_fraction, check_list, check_text, check_whole
from spd_lightning.files.token_data import TokenData
from spd_lightning.functional import keyed_generator


class TextTokens(NumberedBatches, TokenData):
    """Windows of tokens from text of your own.

    The text is tokenised once, when it is first needed, and kept in the cache under a hash of its content. Documents
    follow each other with a token between them; windows run across. Which documents are held out follows from their
    text and ``val_fraction`` alone. Batches are mappings of ``input_ids`` and ``attention_mask``, both
    ``[batch_size, length]``; the mask is 0 where a last window is filled up. Order, resuming and sharing among
    processes are those of :class:`DatasetBatches`.

    Args:
        sources: files, patterns such as ``texts/**/*.txt``, or folders. ``.jsonl`` and ``.json`` hold an object in each
            line, ``.parquet`` a table, all others plain text.
        standard_library: whether the source code of Python's own standard library is part of the text.
        dataset: name of a data set on the Hugging Face hub, whose part ``train`` is taken; a configuration follows a
            colon.
        tokenizer: a ``tokenizer.json``, or a folder that holds one.
        vocabulary: in its place, number of tokens of a tokenizer that is trained on the text.
        length: tokens in a window.
        val_fraction: share of the documents that are held out, for validation and the final scores; 0 for none.
        batch_size: training windows per step, over all processes.
        val_batch_size: largest number of windows per batch of validation, over all processes.
        boundary: the token between documents; ``None`` takes the tokenizer's own that ends a text.
        text_field: the entry or column that is text, where there are several.
        separator: what stands between the documents of a plain file; ``None`` where each file is one document.
        allow_download: whether ``dataset`` may be downloaded.
        num_workers: processes that fetch windows, beside each training process; 0 for none.
        seed: seeds the order of training; ``None`` takes the decomposition's seed.

    Raises:
        UsageError: for a value outside its range, and, when the text is needed, for text that cannot be used.
    """

    def __init__(
        self,
        sources: list[str] | None = None,
        standard_library: bool = False,
        dataset: str | None = None,
        tokenizer: str | None = None,
        vocabulary: int | None = None,
        length: int = 128,
        val_fraction: float = 0.05,
        batch_size: int = 32,
        val_batch_size: int = 64,
        boundary: str | None = None,
        text_field: str = "text",
        separator: str | None = None,
        allow_download: bool = False,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size, val_batch_size, num_workers, True, seed)
        check_list("data: sources", [] if sources is None else sources)
        for source in sources or []:
            check_text("data: sources: each", source)
        texts = {"dataset": dataset, "tokenizer": tokenizer, "boundary": boundary, "separator": separator}
        for name, text in texts.items():
            if text is not None:
                check_text(f"data: {name}", text)
        check_text("data: text_field", text_field)
        if separator == "":
            raise UsageError("data: separator must be text, got none; null keeps a file whole")
        check_flag("data: standard_library", standard_library)
        check_flag("data: allow_download", allow_download)
        check_whole("data: length", length, least=2)
        check_fraction("data: val_fraction", val_fraction)
        if val_fraction == 1:
            raise UsageError("data: val_fraction must be below 1, or nothing is left to train on")
        if vocabulary is not None:
            check_whole("data: vocabulary", vocabulary, least=SMALLEST)
        self.sources, self.standard_library, self.dataset = list(sources or []), standard_library, dataset
        self.tokenizer_path, self.vocabulary, self.boundary = tokenizer, vocabulary, boundary
        self.length, self.val_fraction = length, val_fraction
        self.text_field, self.separator, self.allow_download = text_field, separator, allow_download
        self._check_choices()

    def _check_choices(self) -> None:
        if not (self.sources or self.standard_library or self.dataset):
            raise UsageError("data: sources, standard_library or dataset must be given: there is no text")
        if (self.tokenizer_path is None) == (self.vocabulary is None):
            raise UsageError("data: either tokenizer or vocabulary must be given, to read a tokenizer or train one")
        if self.vocabulary is not None and self.boundary is not None:
            raise UsageError("data: boundary is a token of a tokenizer that is given; leave it out beside vocabulary")
        check_download(self.dataset, self.allow_download)

    @cached_property
    def corpus(self) -> Corpus:
        """The text; data sets are downloaded here."""
        found: list[TextSource] = files_of(self.sources, self.text_field, self.separator)
        if self.standard_library:
            found += standard_library()
        if self.dataset is not None:
            found.append(NamedDataSet(self.dataset, self.text_field))
        return Corpus(found)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """Read, or trained on the text."""
        if self.tokenizer_path is not None:
            return read_tokenizer(self.tokenizer_path, self.boundary)
        return trained_tokenizer(self.corpus, self.vocabulary or 0, self.val_fraction)

    @cached_property
    def tokens(self) -> TokenFile:
        """All text as tokens."""
        return token_file(self.corpus, self.tokenizer)

    @cached_property
    def sides(self) -> tuple[TokenWindows, TokenWindows]:
        """Windows to train on, and those that are held out, in the order of the text."""
        outside = held_out(self.tokens.digests, self.val_fraction)
        train, val = (
            TokenWindows(self.tokens, chosen, self.length, self.tokenizer.boundary) for chosen in (~outside, outside)
        )
        if train.count < self.length:
            raise UsageError(f"data: the text has {train.count} tokens, less than one window of length {self.length}")
        if self.val_fraction and not val.count:
            raise UsageError("data: val_fraction: the text is one document; divide it with separator, or hold out 0")
        return train, val

    @cached_property
    def sets(self) -> Mapping[str, Dataset[Any] | None]:  # type: ignore[override] # made when it is first asked for
        """Windows to train on, and those held out in an order of their own, so that a few show all kinds of text."""
        train, val = self.sides
        if not val.count:
            return self.checked({"train": train, "val": None, "test": None, "predict": None})
        order = torch.randperm(len(val), generator=keyed_generator("order of what is held out")).tolist()
        mixed, first = Subset(val, order), Subset(val, order[: self.val_batch_size])
        return self.checked({"train": train, "val": mixed, "test": mixed, "predict": first})

    def windows(self, held: bool = False) -> Dataset | None:  # type: ignore[type-arg] # see DatasetBatches
        """The windows to train on, or those that are held out, if any, in the order of the text."""
        train, val = self.sides
        return train if not held else val if val.count else None

    def fingerprint(self) -> str:
        """Hash of all that the windows depend on."""
        return f"{self.tokens.fingerprint} {self.length} {self.val_fraction}"

    def check_fits(self, network: nn.Module) -> None:
        """See :meth:`TextTokenizer.check_fits`."""
        self.tokenizer.check_fits(network, self.length)

    def prepare_data(self) -> None:
        """Tokenise, and check that the target takes these tokens, before anything is trained or written."""
        target = getattr(self.trainer.lightning_module, "target", None) if self.trainer else None
        if target is not None:
            self.check_fits(target)
        self.checked(self.sets)
