"""Sequences with answers, drawn once, for targets of attention alone."""

from collections.abc import Callable

from torch import Generator, Tensor
from torch.utils.data import Dataset

from spd_lightning.errors import check_choice, check_whole
from spd_lightning.functional import induction_sequences, keyed_generator, name_sequences

SPLITS = ("train", "test")


class Sequences(Dataset[tuple[Tensor, int]]):
    """Base of data sets of token sequences, each with the token that answers it.

    Args:
        size: number of sequences.
        split: ``"train"`` or ``"test"``: other draws.
        seed: seeds the draw.

    Raises:
        UsageError: for another split or a size below 1.
    """

    def __init__(self, size: int, split: str, seed: int) -> None:
        check_whole("data: size", size, least=1)
        check_choice("data: split", split, SPLITS)
        check_whole("data: seed", seed, most=None)
        self.size, self.split, self.seed = size, split, seed

    def _fill(self, draw: Callable[[Generator], tuple[Tensor, Tensor]]) -> None:
        tokens, answers = draw(keyed_generator("sequences", self.seed, self.split))
        self.tokens, self.answers = tokens, answers.tolist()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.tokens[index], self.answers[index]


class InductionSequences(Sequences):
    """``... T S ... T``, answered with ``S``; see :func:`spd_lightning.functional.induction_sequences`.

    Args:
        vocabulary: number of tokens, at least 3.
        length: of a sequence, at least 5.
        size: number of sequences.
        split: ``"train"`` or ``"test"``: other draws.
        seed: seeds the draw.

    Raises:
        UsageError: for a value outside its range.
    """

    def __init__(
        self, vocabulary: int = 8, length: int = 10, size: int = 20_000, split: str = "train", seed: int = 0
    ) -> None:
        super().__init__(size, split, seed)
        check_whole("data: vocabulary", vocabulary, least=3)
        check_whole("data: length", length, least=5)
        self.vocabulary, self.length = vocabulary, length
        self._fill(lambda generator: induction_sequences(size, vocabulary, length, generator))


class NameSequences(Sequences):
    """``A B A`` or ``A B B`` and an end, answered with the name that stands once.

    This is indirect object identification with symbols for words (Adhikari, arXiv 2510.25013, has the idea; the order
    of the tokens is ours). There are ``2 * names * (names - 1)`` such sequences, so that draws of many hold them all,
    whatever the split. See :func:`spd_lightning.functional.name_sequences`.

    Args:
        names: number of names, at least 2; the end is one token more, number ``names``.
        size: number of sequences.
        split: ``"train"`` or ``"test"``: other draws.
        seed: seeds the draw.

    Raises:
        UsageError: for a value outside its range.
    """

    def __init__(self, names: int = 10, size: int = 20_000, split: str = "train", seed: int = 0) -> None:
        super().__init__(size, split, seed)
        check_whole("data: names", names, least=2)
        self.names = names
        self._fill(lambda generator: name_sequences(size, names, generator))
