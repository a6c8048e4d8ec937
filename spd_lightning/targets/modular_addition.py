"""Addition modulo a prime: networks that answer it with waves."""

import warnings
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_choice, check_fraction, check_whole
from spd_lightning.functional import answer_matrices, is_odd_prime, keyed_generator, number_pairs, split_rows
from spd_lightning.functional.schedules import LRSchedule
from spd_lightning.targets.mechanisms import FourierSite
from spd_lightning.targets.training import TargetTraining

Kind = Literal["bilinear", "relu"]


class ModularAddition(nn.Module):
    """From two numbers to logits of their sum modulo a prime, without biases.

    ``x`` is the two numbers side by side, one-hot or embedded. The bilinear form is ``output((left x) * (right x))``
    (Pearce et al. 2024, arXiv 2410.08417), the other one ``output(relu(hidden x))``. Trained until they generalise, as
    :class:`ModularAdditionTraining` does, both add angles of some frequencies (Nanda et al. 2023, arXiv 2301.05217).

    Args:
        modulus: an odd prime.
        kind: ``bilinear`` (sites ``left``, ``right``, ``output``) or ``relu`` (``hidden``, ``output``).
        width: number of hidden neurons, at least 1.
        embedding: width of an embedding that both numbers share (site ``embed``), at least 1; ``None`` for one-hot
            numbers.

    Raises:
        UsageError: for another modulus or kind, and for sizes below 1.
    """

    one_hot: Tensor

    def __init__(
        self, modulus: int = 23, kind: Kind = "bilinear", width: int = 64, embedding: int | None = None
    ) -> None:
        super().__init__()
        check_whole("target: modulus", modulus)
        if not is_odd_prime(modulus):
            raise UsageError(f"target: modulus must be an odd prime such as 23 or 47, got {modulus}")
        check_choice("target: kind", kind, get_args(Kind))
        check_whole("target: width", width, least=1)
        if embedding is not None:
            check_whole("target: embedding", embedding, least=1)
        self.modulus, self.kind, self.width, self.embedding = modulus, kind, width, embedding
        self.register_buffer("one_hot", torch.eye(modulus), persistent=False)
        self.embed = None if embedding is None else nn.Embedding(modulus, embedding)
        d_in = 2 * (modulus if embedding is None else embedding)
        for name in ("left", "right") if kind == "bilinear" else ("hidden",):
            self.add_module(name, nn.Linear(d_in, width, bias=False))
        self.output = nn.Linear(width, modulus, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Pairs of whole numbers ``[..., 2]`` to logits ``[..., modulus]``; a :class:`UsageError` for anything else."""
        self._check(pairs)
        numbers = self.one_hot[pairs] if self.embed is None else self.embed(pairs)
        x = numbers.flatten(-2)
        first, *rest = (layer(x) for layer in self._readers().values())
        logits: Tensor = self.output(first * rest[0] if rest else first.relu())
        return logits

    def _check(self, pairs: Tensor) -> None:
        if pairs.is_floating_point() or pairs.dim() == 0 or pairs.shape[-1] != 2:
            raise UsageError(
                f"target: its input must be pairs of whole numbers, got {list(pairs.shape)} of {pairs.dtype}; use "
                "data: ModularPairs"
            )
        strange = pairs[(pairs < 0) | (pairs >= self.modulus)]
        if len(strange):
            raise UsageError(
                f"target: modulus is {self.modulus}, but its input holds {int(strange[0])}; give the data the same "
                "modulus"
            )

    def _readers(self) -> dict[str, nn.Module]:
        """The layers that read the numbers."""
        names = ("left", "right") if self.kind == "bilinear" else ("hidden",)
        return {name: self.get_submodule(name) for name in names}

    def reset_parameters(self) -> None:
        """Draw new weights from torch's global generator."""
        for layer in self.children():
            cast(nn.Linear, layer).reset_parameters()

    @torch.no_grad()
    def wrong(self) -> int:
        """How many of all pairs are answered wrongly."""
        pairs, sums = (part.to(self.one_hot.device) for part in number_pairs(self.modulus))
        return int((self(pairs).argmax(-1) != sums).sum())

    def flaws(self) -> list[str]:
        """Whether some pairs are answered wrongly: then it does not add, and no frequency need explain it."""
        wrong = self.wrong()
        return [f"it answers {wrong} of {self.modulus**2} pairs wrongly"] if wrong else []

    def fourier_sites(self) -> dict[str, FourierSite]:
        """Read vectors of what reads the numbers, through an embedding if there is one; write vectors of the answer."""
        one = torch.eye(self.modulus, device=self.one_hot.device, dtype=self.output.weight.dtype)
        table = one if self.embed is None else self.embed.weight.detach()
        sites = {} if self.embed is None else {"embed": FourierSite("read", one)}
        sites |= {name: FourierSite("read", torch.kron(torch.eye(2).to(table), table)) for name in self._readers()}
        return sites | {"output": FourierSite("write", one)}

    def answer_matrices(self) -> Tensor | None:
        """What each logit of a bilinear network is a quadratic form of the one-hot numbers with.

        Returns:
            ``[modulus, 2 * modulus, 2 * modulus]``, symmetric; ``None`` for a ReLU network.
        """
        if self.kind != "bilinear":
            return None
        seen = self.fourier_sites()["left"].numbers.T
        left, right = (cast(nn.Linear, layer).weight.detach() @ seen for layer in (self.left, self.right))
        return answer_matrices(left, right, self.output.weight.detach())


class ModularAdditionTraining(TargetTraining):
    """Train a :class:`ModularAddition` until it generalises, once, and keep the result in the cache.

    Cross entropy on a random share of all pairs, the whole share at every update, AdamW with a strong weight decay. It
    ends when all other pairs are answered rightly with a mean cross entropy below ``CONFIDENT``, or with the steps.

    Args:
        steps: largest number of updates.
        train_fraction: share of pairs that are trained on, in (0, 1).
        lr: learning rate.
        weight_decay: AdamW's.
        schedule: learning rate over time, over all ``steps``.
        seed: seeds the start and the choice of pairs.

    Raises:
        UsageError: for a value outside its range.
    """

    betas = (0.9, 0.98)

    def __init__(
        self,
        steps: int = 5000,
        train_fraction: float = 0.8,
        lr: float = 1e-2,
        weight_decay: float = 1.0,
        schedule: LRSchedule = "constant",
        seed: int = 0,
    ) -> None:
        super().__init__(steps, None, lr, weight_decay, schedule, seed)
        check_fraction("recipe: train_fraction", train_fraction, zero=False)
        if train_fraction == 1:
            raise UsageError("recipe: train_fraction must be below 1, or nothing is held out; got 1")
        self.train_fraction = train_fraction

    def prepare(self, network: nn.Module) -> None:
        """Load the trained weights from the cache, or train and fill it; warn if the result does not add."""
        if not isinstance(network, ModularAddition):
            raise UsageError(
                f"recipe: ModularAdditionTraining trains a ModularAddition, not a {type(network).__name__}; use "
                "recipe: null for weights that are there, or LoadedWeights"
            )
        super().prepare(network)
        for flaw in network.flaws():
            warnings.warn(f"the trained target is flawed, {flaw}; raise recipe steps or train_fraction", stacklevel=2)

    def reset(self, network: nn.Module) -> None:
        """The network's own way."""
        assert isinstance(network, ModularAddition)
        network.reset_parameters()

    def pairs(self, network: ModularAddition, held_out: bool) -> tuple[Tensor, Tensor]:
        """Pairs ``[n, 2]`` that are trained on or held out, and their sums ``[n]``."""
        pairs, sums = number_pairs(network.modulus)
        split = split_rows(len(pairs), self.train_fraction, keyed_generator(self.seed, "held-out pairs"))
        return pairs[split[held_out]], sums[split[held_out]]

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Cross entropy of all pairs that are trained on."""
        assert isinstance(network, ModularAddition)
        pairs, sums = self.pairs(network, held_out=False)
        return F.cross_entropy(network(pairs), sums)

    @torch.no_grad()
    def finished(self, network: nn.Module, step: int) -> bool:
        """Whether all held-out pairs are answered rightly and confidently, asked every so often."""
        assert isinstance(network, ModularAddition)
        if (step + 1) % ASKED_EVERY:
            return False
        pairs, sums = self.pairs(network, held_out=True)
        logits = network(pairs)
        right = bool((logits.argmax(-1) == sums).all())
        return right and F.cross_entropy(logits, sums).item() < CONFIDENT


ASKED_EVERY = 100
"""Updates between two looks at the pairs that are held out."""
CONFIDENT = 0.02
"""Mean cross entropy of held-out pairs, in nats, below which there is nothing left to learn."""
