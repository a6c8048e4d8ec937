"""Where a target's weights come from."""

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_text
from spd_lightning.files.tensors import read_state
from spd_lightning.files.whole import is_file


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
