"""Sequences with answers, drawn once, for targets of attention alone."""

from torch import Tensor
from torch.utils.data import Dataset

from spd_lightning.errors import check_choice, check_whole
from spd_lightning.functional import induction_sequences, keyed_generator

SPLITS = ("train", "test")


class InductionSequences(Dataset[tuple[Tensor, int]]):
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
        check_whole("data: size", size, least=1)
        check_choice("data: split", split, SPLITS)
        check_whole("data: seed", seed, most=None)
        check_whole("data: vocabulary", vocabulary, least=3)
        check_whole("data: length", length, least=5)
        self.vocabulary, self.length, self.size, self.split, self.seed = vocabulary, length, size, split, seed
        generator = keyed_generator("sequences", seed, split)
        self.tokens, answers = induction_sequences(size, vocabulary, length, generator)
        self.answers: list[int] = answers.tolist()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.tokens[index], self.answers[index]
