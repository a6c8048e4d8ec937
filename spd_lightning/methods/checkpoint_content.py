"""What a checkpoint may hold before anything in it is used: its origin is not trusted."""

import dataclasses
import inspect
import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from spd_lightning.artefact.sizes import check_target_size
from spd_lightning.errors import UsageError
from spd_lightning.files.describe import class_of, factory, given_by_caller, rebuilt
from spd_lightning.files.tensors import is_plain
from spd_lightning.losses import Loss
from spd_lightning.model import ImportanceFunction, Site, TargetCall
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
"""How Lightning would rebuild nested classes from plain data."""


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


def rebuilt_arguments(method: type, checkpoint: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The constructor's arguments from the hyper-parameters of a checkpoint.

    A name in a config is followed, since a config is trusted; one in a checkpoint must lead to a class of the right
    kind that is imported already.

    Args:
        method: whose constructor it is.
        checkpoint: its content.
        given: arguments that the caller gives, which are left out.

    Returns:
        Every other argument, by name.

    Raises:
        UsageError: if a name leads elsewhere, or a target is larger than the file.
    """
    kept = checkpoint.get("hyper_parameters", {})
    if not isinstance(kept, dict):
        raise UsageError("the checkpoint is damaged: its hyper-parameters are no mapping")
    if kept.get("_instantiator", INSTANTIATOR) != INSTANTIATOR:
        raise UsageError("the checkpoint names a way to rebuild it that is not this package's; refused")
    arguments = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if name not in given and name in kept:
            arguments[name] = _argument(name, kept[name], parameter.default, checkpoint["state_dict"])
    return arguments


def _argument(name: str, kept: Any, default: Any, state: Mapping[str, Tensor]) -> Any:
    """One argument from what a checkpoint keeps of it."""
    what = f"the checkpoint's {name}"
    if kept is None:
        return None
    if name in _NAMED:
        cls = class_of(kept, _NAMED[name], what)
        if issubclass(cls, nn.Module):
            check_target_size(cls, kept.get("init_args", {}), state)
        build = factory(kept, _NAMED[name], what)
        return build if given_by_caller(kept, _NAMED[name]) else build()
    if name == "losses":
        return {str(term): rebuilt(loss, Loss, f"{what}.{term}") for term, loss in _mapping(kept, what).items()}
    if name == "kinds":
        if not isinstance(kept, list):
            raise UsageError(f"{what} is damaged: it is no list")
        return [class_of({"class_path": path}, Site, what) for path in kept]
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return type(default)(**_mapping(kept, what))
    return kept


def _mapping(kept: Any, what: str) -> dict[str, Any]:
    if not isinstance(kept, dict):
        raise UsageError(f"{what} is damaged: it is no mapping")
    return kept
