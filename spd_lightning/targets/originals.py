"""A target's weights as the network that they came from has them."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from spd_lightning.targets.hugging_face import AdoptedModel
from spd_lightning.targets.unfused import Unfused, fused_state

STATE_NAME = "model.safetensors"


def write_original(target: nn.Module, folder: Path) -> None:
    """Write a target's weights in a form that needs nothing of this package.

    A model of ``transformers`` becomes a folder that its ``from_pretrained`` reads, with its tokenizer if it came with
    one. Any other network becomes a state dict in ``model.safetensors``, under the names that its modules had before
    anything was unfused.

    Args:
        target: the network.
        folder: an existing one, that holds nothing of these names.
    """
    inner = target.network if isinstance(target, Unfused) and not unfused_within(target) else target
    if isinstance(inner, AdoptedModel):
        inner.write(folder)
    elif is_pretrained(inner):
        inner.save_pretrained(folder)  # type: ignore[operator]
    else:
        save_file(original_state(target), folder / STATE_NAME, metadata={"format": "pt"})


def original_state(target: nn.Module) -> dict[str, Tensor]:
    """Copies of a target's weights under the names of the original network, tied ones once for each name."""
    state = target.original_state() if isinstance(target, Unfused) else fused_state(target)
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def unfused_within(target: Unfused) -> bool:
    """Whether anything in the network is in an unfused form."""
    return set(target.original_state()) != set(target.network.state_dict())


def is_pretrained(network: nn.Module) -> bool:
    """Whether a network is a model of ``transformers``, known by the name of a class, without importing the package."""
    return any(base.__name__ == "PreTrainedModel" for base in type(network).__mro__)
