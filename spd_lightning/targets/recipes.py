"""Where a target's weights come from."""

import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol, cast, get_args

import torch
from torch import Tensor, nn
from tqdm import trange

from spd_lightning.errors import (
    UsageError,
    check_choice,
    check_finite,
    check_fraction,
    check_number,
    check_text,
    check_whole,
)
from spd_lightning.files.describe import describe
from spd_lightning.files.tensors import read_state
from spd_lightning.files.whole import is_file
from spd_lightning.functional import keyed_generator, lr_factor, sparse_features
from spd_lightning.functional.schedules import LRSchedule
from spd_lightning.targets.cache import TargetCache


class TargetRecipe(ABC):
    """How a network gets the weights that are then frozen and decomposed."""

    @abstractmethod
    def prepare(self, network: nn.Module) -> None:
        """Fill the network with its weights, in place.

        Raises:
            UsageError: if the weights cannot be had or do not fit.
        """


class LoadedWeights(TargetRecipe):
    """Weights from a file: a state dict in ``.safetensors``, or in ``.pt`` / ``.pth`` / ``.ckpt`` form.

    Nothing in the file is executed. In a checkpoint the entry ``state_dict`` is used.

    Args:
        path: the file.
        prefix: taken off the names in the file, for example ``"model."``.
    """

    def __init__(self, path: str, prefix: str = "") -> None:
        check_text("recipe: path", path)
        check_text("recipe: prefix", prefix)
        self.path, self.prefix = path, prefix

    def prepare(self, network: nn.Module) -> None:
        """Load the file into the network; every name and shape must fit."""
        path = Path(self.path)
        if not is_file(path):
            raise UsageError(f"recipe: path: target weights {self.path!r} does not exist")
        load_state(network, read_state(path, self.prefix), self.path)


def load_state(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load a state dict, or say in one line what does not fit.

    Args:
        network: where the tensors go.
        state: tensors by name.
        origin: the file's name, for the message.

    Raises:
        UsageError: if a name is missing or unknown, or a shape differs.
    """
    own = network.state_dict()
    translate = getattr(network, "translated", None)  # names that a network's weights have elsewhere
    state = state if translate is None else translate(state)
    for name, tensor in own.items():
        if name not in state:
            raise UsageError(f"{origin}: holds no {name!r}, which the target needs; is it another network's file?")
        if state[name].shape != tensor.shape:
            shapes = f"{list(state[name].shape)} in the file, {list(tensor.shape)} in the target"
            raise UsageError(f"{origin}: {name!r} has another shape: {shapes}")
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise UsageError(f"{origin}: holds {unknown[0]!r}, which the target does not have")
    _check_values(network, state, origin)
    network.load_state_dict(state)


def _check_values(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Refuse weights that compute nothing; buffers may hold infinities, as attention masks do."""
    trained = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for name, tensor in network.state_dict().items():
        value = state[name].to(tensor.dtype)
        if value.is_complex() or not value.is_floating_point():
            continue
        if value.isnan().any() or (name in trained and value.isinf().any()):
            raise UsageError(f"{origin}: {name!r} holds a value that is not finite")


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


class FeatureTraining(TargetRecipe):
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
        for name, size in {"steps": steps, "batch_size": batch_size}.items():
            check_whole(f"recipe: {name}", size)
        if steps < 1 or batch_size < 1:
            raise UsageError(f"recipe: steps and batch_size must be at least 1, got {steps} and {batch_size}")
        check_whole("recipe: seed", seed, most=None)
        check_choice("recipe: schedule", schedule, get_args(LRSchedule))
        self._check_numbers(lr, weight_decay, feature_probability, value_min, value_max)
        self.steps, self.batch_size, self.lr, self.weight_decay = steps, batch_size, lr, weight_decay
        self.schedule, self.feature_probability, self.seed = schedule, feature_probability, seed
        self.value_min, self.value_max = value_min, value_max

    @staticmethod
    def _check_numbers(
        lr: float, weight_decay: float, feature_probability: float, value_min: float, value_max: float
    ) -> None:
        check_fraction("recipe: feature_probability", feature_probability, zero=False)
        check_number("recipe: lr", lr)
        if not 0 < lr < float("inf"):
            raise UsageError(f"recipe: lr must be a finite number above 0, got {lr}")
        check_finite("recipe: weight_decay", weight_decay)
        if weight_decay < 0:
            raise UsageError(f"recipe: weight_decay must be at least 0, got {weight_decay}")
        check_finite("recipe: value_min", value_min)
        check_finite("recipe: value_max", value_max)
        if value_min >= value_max:
            raise UsageError(f"recipe: value_min must be below value_max, got {value_min} and {value_max}")

    def prepare(self, network: nn.Module) -> None:
        """Load the trained weights from the cache, or train and fill it; warn if the result is flawed."""
        if not all(hasattr(network, name) for name in ("n_features", "label", "reset_parameters", "flaws")):
            raise UsageError(
                f"recipe: FeatureTraining cannot train a {type(network).__name__}, which has no n_features, label, "
                "reset_parameters and flaws; use recipe: null or LoadedWeights"
            )
        state = TargetCache().get(
            {"network": describe(network), "recipe": describe(self)}, lambda: self._train(network)
        )
        load_state(network, state, "the cached target")
        for flaw in cast(FeatureNetwork, network).flaws():
            warnings.warn(f"the trained target is flawed, {flaw}; try another recipe seed", stacklevel=2)

    def _train(self, network: nn.Module) -> dict[str, Tensor]:
        requires_grad = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
        network.requires_grad_(True)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            cast(FeatureNetwork, network).reset_parameters()
            self._optimise(network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(requires_grad[name])
        return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def _optimise(self, network: nn.Module) -> None:
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.lr, weight_decay=self.weight_decay)
        bar = trange(self.steps, desc="Training the target", mininterval=0.5, leave=False, disable=None)
        for step in bar:
            optimizer.param_groups[0]["lr"] = self.lr * lr_factor(step, self.steps, self.schedule)
            loss = self._loss(network, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % 500 == 0:
                bar.set_postfix(loss=f"{loss.item():.2e}")

    def _loss(self, network: nn.Module, step: int) -> Tensor:
        toy = cast(FeatureNetwork, network)
        x = sparse_features(
            self.batch_size,
            toy.n_features,
            self.feature_probability,
            (self.value_min, self.value_max),
            keyed_generator(self.seed, step, "target training"),
        )
        loss: Tensor = (network(x) - toy.label(x)).square().mean()
        return loss
