"""Targets that are trained once and kept in the cache."""

import warnings
from abc import abstractmethod
from typing import Any, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_choice, check_finite, check_fraction, check_number, check_whole
from spd_lightning.files.describe import describe
from spd_lightning.files.progress import progress
from spd_lightning.functional import keyed_generator, keyed_seed, lr_factor, sparse_features
from spd_lightning.functional.schedules import LRSchedule
from spd_lightning.targets.cache import TargetCache
from spd_lightning.targets.recipes import TargetRecipe, load_state

CURVE = ("training curve: update", "training curve: loss")
"""What the losses are called beside the weights; no parameter's name has a colon in it."""
POINTS = 200
"""About how many losses are kept."""


class TargetTraining(TargetRecipe):
    """Base of recipes that train a network once and keep the result in the cache; AdamW, a loss of the subclass's.

    Args:
        steps: number of updates.
        batch_size: examples per update; ``None`` where the loss is of all of them.
        lr: learning rate.
        weight_decay: AdamW's.
        schedule: learning rate over time.
        seed: seeds the start and the data.

    Attributes:
        curve: once the network is prepared, its loss by the number of the update, every so often; kept in the cache
            beside the weights. Empty for weights that were cached without.

    Raises:
        UsageError: for a value outside its range.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's; like the next two it is a subclass's to change."""
    warmup_fraction = 0.0
    """Share of the updates over which the learning rate first rises from 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient, all parameters together; ``None`` for any."""
    told_every = 500
    """Updates between two losses in the progress bar."""
    starts = 1
    """How often the network is trained at most, from other weights each time, until one of them will do."""

    def __init__(
        self, steps: int, batch_size: int | None, lr: float, weight_decay: float, schedule: LRSchedule, seed: int
    ) -> None:
        for name, size in {"steps": steps, "batch_size": 1 if batch_size is None else batch_size}.items():
            check_whole(f"recipe: {name}", size)
        if steps < 1 or (batch_size is not None and batch_size < 1):
            raise UsageError(f"recipe: steps and batch_size must be at least 1, got {steps} and {batch_size}")
        check_whole("recipe: seed", seed, most=None)
        check_choice("recipe: schedule", schedule, get_args(LRSchedule))
        check_number("recipe: lr", lr)
        if not 0 < lr < float("inf"):
            raise UsageError(f"recipe: lr must be a finite number above 0, got {lr}")
        check_finite("recipe: weight_decay", weight_decay)
        if weight_decay < 0:
            raise UsageError(f"recipe: weight_decay must be at least 0, got {weight_decay}")
        if batch_size is not None:
            self.batch_size = batch_size
        self.steps, self.lr, self.weight_decay = steps, lr, weight_decay
        self.schedule, self.seed = schedule, seed
        self.curve: dict[int, float] = {}

    @abstractmethod
    def loss(self, network: nn.Module, step: int) -> Tensor:
        """The loss of one update, a scalar; its data is keyed by the seed and the step."""

    @abstractmethod
    def reset(self, network: nn.Module) -> None:
        """Draw new weights from torch's global generator, which is seeded."""

    def finished(self, network: nn.Module, step: int) -> bool:
        """Whether the network needs no further update, asked after each."""
        return False

    def will_do(self, network: nn.Module) -> bool:
        """Whether the trained network is good enough to be kept, asked after each start but the last."""
        return True

    def description(self, network: nn.Module) -> dict[str, Any]:
        """Plain data that determines the trained weights."""
        return {"network": describe(network), "recipe": describe(self)}

    def prepare(self, network: nn.Module) -> None:
        """Load the trained weights from the cache, or train and fill it."""
        state = TargetCache().get(self.description(network), lambda: self._train(network))
        curve = {name: state.pop(name) for name in CURVE if name in state}
        self.curve = dict(zip(*(part.tolist() for part in curve.values()), strict=True)) if curve else {}
        load_state(network, state, "the cached target")

    def _train(self, network: nn.Module) -> dict[str, Tensor]:
        requires_grad = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
        network.requires_grad_(True)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            for start in range(self.starts):
                torch.manual_seed(keyed_seed(self.seed, start, "another start") if start else self.seed)
                self.reset(network)
                self._optimise(network)
                if start == self.starts - 1 or self.will_do(network):
                    break
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(requires_grad[name])
        weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        numbers = torch.tensor(list(self.curve), dtype=torch.long), torch.tensor(list(self.curve.values()))
        return weights | dict(zip(CURVE, numbers, strict=True))

    def _optimise(self, network: nn.Module) -> None:
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)
        self.curve, between = {}, max(1, self.steps // POINTS)
        bar = progress("Training the target", range(self.steps))
        for step in bar:
            factor = lr_factor(step, self.steps, self.schedule, self.warmup_fraction)
            optimizer.param_groups[0]["lr"] = self.lr * factor
            loss = self.loss(network, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(trained, self.clip_norm)
            optimizer.step()
            last = step == self.steps - 1 or self.finished(network, step)
            if step % between == 0 or last:
                self.curve[step] = loss.item()
            if step % self.told_every == 0:
                bar.set_postfix({"loss": f"{loss.item():.2e}"}, refresh=False)
            if last:
                break


class FeatureNetwork(Protocol):
    """A network that :class:`FeatureTraining` can train."""

    n_features: int

    def label(self, x: Tensor) -> Tensor:
        """The wanted output."""
        ...

    def reset_parameters(self) -> None:
        """Draw new weights from torch's global generator."""
        ...

    def flaws(self) -> list[str]:
        """What is wrong with the trained weights, a sentence each."""
        ...


class FeatureTraining(TargetTraining):
    """Train a toy network on sparse synthetic features, once, and keep the result in the cache.

    Mean squared error to the network's own ``label(x)``, AdamW, a fresh batch every step (SPD paper's code).

    Args:
        steps: number of updates.
        batch_size: examples per update.
        lr: learning rate.
        weight_decay: AdamW's.
        schedule: learning rate over time.
        feature_probability: chance that a feature is active, in (0, 1].
        value_min: lowest value of an active feature.
        value_max: highest value of an active feature.
        seed: seeds the start and the data.

    Raises:
        UsageError: for a value outside its range.
    """

    def __init__(
        self,
        steps: int = 10_000,
        batch_size: int = 1024,
        lr: float = 5e-3,
        weight_decay: float = 0.01,
        schedule: LRSchedule = "constant",
        feature_probability: float = 0.05,
        value_min: float = 0.0,
        value_max: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(steps, batch_size, lr, weight_decay, schedule, seed)
        check_fraction("recipe: feature_probability", feature_probability, zero=False)
        check_finite("recipe: value_min", value_min)
        check_finite("recipe: value_max", value_max)
        if value_min >= value_max:
            raise UsageError(f"recipe: value_min must be below value_max, got {value_min} and {value_max}")
        self.feature_probability, self.value_min, self.value_max = feature_probability, value_min, value_max

    def prepare(self, network: nn.Module) -> None:
        """Load the trained weights from the cache, or train and fill it; warn if the result is flawed."""
        if not all(hasattr(network, name) for name in ("n_features", "label", "reset_parameters", "flaws")):
            raise UsageError(
                f"recipe: FeatureTraining cannot train a {type(network).__name__}, which has no n_features, label, "
                "reset_parameters and flaws; use recipe: null or LoadedWeights"
            )
        super().prepare(network)
        for flaw in cast(FeatureNetwork, network).flaws():
            warnings.warn(f"the trained target is flawed, {flaw}; try another recipe seed", stacklevel=2)

    def reset(self, network: nn.Module) -> None:
        """The network's own way."""
        cast(FeatureNetwork, network).reset_parameters()

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Mean squared error on fresh features."""
        toy = cast(FeatureNetwork, network)
        x = sparse_features(
            self.batch_size,
            toy.n_features,
            self.feature_probability,
            (self.value_min, self.value_max),
            keyed_generator(self.seed, step, "target training"),
        )
        error: Tensor = (network(x) - toy.label(x)).square().mean()
        return error
