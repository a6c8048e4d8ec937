"""Induction by hand: a previous-token head and an induction head whose every term is written down."""

import torch
from torch import Tensor

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.functional import induction_sequences, keyed_generator
from spd_lightning.targets.attention_only import AttentionOnly
from spd_lightning.targets.mechanisms import Mechanisms, Terms

PROBES = 64
"""Sequences on which the mechanisms are looked at."""
Lines = list[tuple[int, int]]
"""Terms of a matrix: the direction that each reads and the direction that it writes, as numbers of unit vectors."""


class HandMadeInduction(AttentionOnly):
    r"""Two layers of one head that answer ``... T S ... T`` with ``S``; the weights are written, not trained (ours).

    The stream has a block of dimensions for the token, one for the token before, one for the answer, and one for
    positions. The head of layer 0 looks one position back and copies the token there into the block "before"; the head
    of layer 1 looks from the last token for the position before which the same token stands, and copies the token there
    into the block "answer". Every matrix is a sum of terms that read one unit vector and write one, and only terms that
    act are written. In a sequence each matrix uses one of them, at one position: where ``T`` stands first (``k``, ``v``
    of layer 0), where ``S`` follows it (``q``, ``o`` of layer 0, ``k``, ``v`` of layer 1), or at the end (``q``, ``o``
    of layer 1). A softmax leaves a little to all other positions, so that this is true up to a divergence of about
    0.001. The defaults keep softmax and answer away from saturation: half a term does half the work.

    Args:
        vocabulary: number of tokens, at least 3.
        length: of a sequence, at least 5.
        sharpness: by how much the score of the position that is looked at exceeds the others.
        logit: of the answer; the others have about 0.

    Raises:
        UsageError: for sizes that do not fit.
    """

    def __init__(self, vocabulary: int = 8, length: int = 10, sharpness: float = 5.0, logit: float = 4.0) -> None:
        check_whole("target: vocabulary", vocabulary, least=3)
        check_whole("target: length", length, least=5)
        for name, value in {"sharpness": sharpness, "logit": logit}.items():
            if not 0 < value < float("inf"):
                raise UsageError(f"target: {name} must be a finite number above 0, got {value}")
        width = 3 * vocabulary + length
        super().__init__(vocabulary, length, width + width % 2, n_layers=2, heads=1, d_head=max(vocabulary, length))
        self.sharpness, self.logit = sharpness, logit
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Write the weights down."""
        for parameter in self.parameters():
            parameter.zero_()
        tokens = torch.arange(self.vocabulary)
        self.embed.weight[tokens, self._block(0)] = 1
        self.unembed.weight[tokens, self._block(2)] = self.logit
        self.positions.zero_()
        self.positions[torch.arange(self.length), self._block(3)] = 1
        for name, lines in self.lines().items():
            reads, writes = torch.tensor(lines).T
            weight = self.get_parameter(f"{name}.weight")
            weight[writes, reads] = self._strength(name)

    def _block(self, number: int) -> Tensor:
        """Dimensions of the stream: tokens, tokens before, answers, positions."""
        start = number * self.vocabulary
        return torch.arange(start, start + (self.length if number == 3 else self.vocabulary))

    def _strength(self, name: str) -> float:
        """Factor of a matrix's terms: queries and keys share the sharpness."""
        return (self.sharpness * self._d_head**0.5) ** 0.5 if name[-1] in "qk" else 1.0

    @property
    def _d_head(self) -> int:
        return max(self.vocabulary, self.length)

    def lines(self) -> dict[str, Lines]:
        """The terms of every matrix."""
        token, before, answer, place = (self._block(number).tolist() for number in range(4))
        acting = range(1, self.length - 2)  # where T may stand first
        read_token, heads = list(zip(token, range(self.vocabulary), strict=True)), range(self.vocabulary)
        return {
            "layers.0.q": [(place[first + 1], first) for first in acting],
            "layers.0.k": [(place[first], first) for first in acting],
            "layers.0.v": read_token,
            "layers.0.o": list(zip(heads, before, strict=True)),
            "layers.1.q": read_token,
            "layers.1.k": list(zip(before, heads, strict=True)),
            "layers.1.v": read_token,
            "layers.1.o": list(zip(heads, answer, strict=True)),
        }

    def probes(self) -> Tensor:
        """Sequences, ``[64, length]``."""
        return induction_sequences(PROBES, self.vocabulary, self.length, keyed_generator("induction probes"))[0]

    def known_mechanisms(self) -> dict[str, Mechanisms]:
        """Every term of the eight matrices, and at which positions of the probes it acts."""
        return {name: self._of_site(name, lines) for name, lines in self.lines().items()}

    def _of_site(self, name: str, lines: Lines) -> Mechanisms:
        d_out, d_in = self.get_parameter(f"{name}.weight").shape
        reads, writes = torch.tensor(lines).T
        read, write = torch.eye(d_in)[reads], self._strength(name) * torch.eye(d_out)[writes]
        head = int(name.split(".")[1])
        terms = Terms(read, write, self._needed(name, len(lines)), [head] * len(lines))
        return Mechanisms("terms", len(lines), terms=terms)

    def _needed(self, name: str, count: int) -> Tensor:
        """Boolean ``[rows, length, terms]``: one term at one position in every probe."""
        probes = self.probes()
        rows, last = torch.arange(len(probes)), self.length - 1
        trigger = probes[:, last]
        first = (probes[:, :last] == trigger[:, None]).int().argmax(1)
        token_after = probes[rows, first + 1]
        where: dict[str, tuple[Tensor, Tensor]] = {
            "layers.0.q": (first + 1, first - 1),
            "layers.0.k": (first, first - 1),
            "layers.0.v": (first, trigger),
            "layers.0.o": (first + 1, trigger),
            "layers.1.q": (torch.full_like(first, last), trigger),
            "layers.1.k": (first + 1, trigger),
            "layers.1.v": (first + 1, token_after),
            "layers.1.o": (torch.full_like(first, last), token_after),
        }
        needed = torch.zeros(len(probes), self.length, count, dtype=torch.bool)
        position, term = where[name]
        needed[rows, position, term] = True
        return needed
