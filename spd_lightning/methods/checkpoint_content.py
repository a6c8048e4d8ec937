"""What a checkpoint may hold before anything in it is used: it may come from anybody."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from spd_lightning.artefact.sizes import check_target_size
from spd_lightning.errors import UsageError
from spd_lightning.files.describe import class_of
from spd_lightning.files.tensors import is_plain
from spd_lightning.losses import Loss
from spd_lightning.model import ImportanceFunction, TargetCall
from spd_lightning.targets import TargetRecipe

_NAMED: dict[str, type] = {
    "target": nn.Module,
    "call": TargetCall,
    "importance": ImportanceFunction,
    "recipe": TargetRecipe,
}
_KINDS: dict[str, type | tuple[type, ...]] = {
    "state_dict": dict,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
_LEFT_OUT = ("loops", "callbacks", "optimizer_states", "lr_schedulers")
"""What a checkpoint of weights alone does without."""
INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
"""How Lightning rebuilds nested classes from plain data."""


def check_content(checkpoint: Mapping[str, Any], finite: bool = True) -> None:
    """Raise unless a checkpoint's parts are of the kinds that Lightning writes.

    Args:
        checkpoint: its content.
        finite: whether its weights must be finite.

    Raises:
        UsageError: in one line that names the part.
    """
    for name, kind in _KINDS.items():
        if name not in checkpoint and name in _LEFT_OUT:
            continue
        if not isinstance(checkpoint.get(name), kind) or isinstance(checkpoint[name], bool):
            raise UsageError(f"the checkpoint is damaged: its {name!r} is missing or of a wrong kind")
    if not re.fullmatch(r"\d{1,4}(\.\w{1,9}){1,4}", str(checkpoint.get("pytorch-lightning_version"))):
        raise UsageError("the checkpoint is damaged: it does not say by which Lightning it was written")
    for name, tensor in checkpoint["state_dict"].items():
        if not isinstance(name, str) or not is_plain(tensor):
            raise UsageError(f"the checkpoint is damaged: {str(name)[:100]!r} in its state is no tensor of numbers")
        if finite and not tensor.isfinite().all():
            raise UsageError(f"the checkpoint holds a value that is not finite in {name!r}")


def check_state(state: dict[str, Tensor], own: dict[str, Tensor], origin: str) -> None:
    """Raise a one-line :class:`UsageError` unless a state has the names and shapes of another.

    Args:
        state: tensors by name, of a file.
        own: those that they are to replace.
        origin: where the state comes from, for messages.
    """
    odd = sorted(set(own) ^ set(state))
    if odd:
        raise UsageError(f"{origin} and the config name different parameters: {odd[0]!r} is in one alone")
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            shapes = f"{list(state[name].shape)} in {origin}, {list(tensor.shape)} in the config"
            raise UsageError(f"{name!r} has another shape: {shapes}")


def check_named_classes(checkpoint: Mapping[str, Any], given: Collection[str]) -> None:
    """Raise if the hyper-parameters of a checkpoint name anything that is not imported already, or of another kind.

    A name in a config is followed, since a config is trusted; one in a checkpoint must lead to what is there.

    Args:
        checkpoint: its content.
        given: arguments that the caller replaces.

    Raises:
        UsageError: if a name leads elsewhere, or a target is larger than the file.
    """
    arguments = checkpoint.get("hyper_parameters", {})
    if not isinstance(arguments, dict):
        raise UsageError("the checkpoint is damaged: its hyper-parameters are no mapping")
    if arguments.get("_instantiator", INSTANTIATOR) != INSTANTIATOR:
        raise UsageError("the checkpoint names a way to rebuild it that is not this package's; refused")
    named = {name: (arguments.get(name), kind) for name, kind in _NAMED.items()}
    losses = arguments.get("losses")
    if isinstance(losses, dict):
        named |= {f"losses.{name}": (loss, Loss) for name, loss in losses.items()}
    elif losses is not None:
        raise UsageError("the checkpoint is damaged: its losses are no mapping")
    for name, (described, kind) in named.items():
        if described is not None and name.partition(".")[0] not in given:
            cls = class_of(described, kind, f"the checkpoint's {name}")
            if issubclass(cls, nn.Module):
                check_target_size(cls, described.get("init_args", {}), checkpoint["state_dict"])
