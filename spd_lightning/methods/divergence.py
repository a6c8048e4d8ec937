"""A step whose numbers are not finite: where it went wrong, and a file to repeat it from."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spd_lightning.files import WriteError, write_torch
from spd_lightning.functional import WeightedBatch
from spd_lightning.losses.sharing import processes, rows_of_all
from spd_lightning.methods.base import KEPT_STEP
from spd_lightning.methods.sharding import own_part
from spd_lightning.model import ComponentModel, DecomposedModel

KEPT_FORMAT = 1
FEW_NUMBERS = 2**20


@dataclass(frozen=True)
class Running:
    """What a training step is determined by, beside the module's state.

    Attributes:
        batch: as the training step takes it.
        key: of the step's noise.
        progress: fraction of training done, for schedules.
    """

    batch: Any
    key: tuple[int | str, ...]
    progress: float

    def of_all(self) -> "Running":
        """The same step on the rows of all processes that share its batch; to be called by every one of them."""
        if processes() == 1:
            return self
        x = rows_of_all(network_input(self.batch))
        if isinstance(self.batch, WeightedBatch):
            return replace(self, batch=WeightedBatch(x, rows_of_all(self.batch.weights)))
        return replace(self, batch=x)

    def content(self, told: str, seed: int) -> dict[str, Any]:
        """As plain data and tensors on the CPU, with what was said about the step."""
        weights = self.batch.weights.detach().cpu() if isinstance(self.batch, WeightedBatch) else None
        x = _plain(network_input(self.batch))
        step = {"x": x, "weights": weights, "key": list(self.key), "progress": self.progress}
        return {"format": KEPT_FORMAT, "told": told, "seed": seed, **step}


def network_input(batch: Any) -> Any:
    """What the target takes of a batch."""
    return batch[0] if isinstance(batch, list | tuple) else batch


def looks_finite(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether no gradient holds NaN or infinity, in one cheap reduction; a sum that overflows is a false alarm."""
    gradients = [own_part(parameter.grad) for parameter in parameters if parameter.grad is not None]
    if sum(gradient.numel() for gradient in gradients) <= FEW_NUMBERS:
        return not gradients or math.isfinite(torch.cat([g.flatten() for g in gradients]).sum().item())
    return math.isfinite(torch.stack([gradient.sum() for gradient in gradients]).sum().item())


def is_odd(tensor: Tensor) -> bool:
    """Whether a tensor holds NaN or infinity."""
    return not bool(tensor.isfinite().all())


def gradient_fault(model: ComponentModel[Any]) -> str | None:
    """The first gradient that holds NaN or infinity, in words; ``None`` if all are finite."""
    for name, parameter in _by_site(model):
        if parameter.grad is not None and is_odd(parameter.grad):
            return f"{_odd(parameter.grad)} in the gradient of {name}"
    return None


@torch.no_grad()
def fault(model: ComponentModel[Any], batch: Any) -> str:
    """Where a batch's numbers stop being finite, in words: the first place on their way."""
    x = network_input(batch)
    weights = [batch.weights] if isinstance(batch, WeightedBatch) else []
    if any(not tensor.isfinite().all() for tensor in [*_tensors(x), *weights]):
        return "the batch itself is not finite"
    for name, parameter in _by_site(model):
        if not parameter.isfinite().all():
            return f"{_odd(parameter)} in {name}"
    clean = model.clean(x)
    importances = model.causal_importance(clean.site_inputs) if isinstance(model, DecomposedModel) else {}
    for name, site_input in clean.site_inputs.items():
        parts = model.components[name]
        places = {
            "its input": site_input,
            "its inner activations": parts.inner(site_input),
            **({"the logits of its importances": importances[name].logits} if importances else {}),
            "the square of what its components leave unexplained": parts.delta().square().sum(),
        }
        for place, tensor in places.items():
            if not tensor.isfinite().all():
                return f"site {name!r}: {_odd(tensor)} in {place}"
    return "the target's output is not finite" if not clean.output.isfinite().all() else "at no single site"


def keep(folder: Path, step: int, content: Mapping[str, Any]) -> str:
    """Write a step's file beside those of earlier failures.

    Args:
        folder: the run directory.
        step: the step's number.
        content: tensors and plain containers.

    Returns:
        What to tell the user about it.
    """
    path, number = folder / KEPT_STEP / f"step={step}.pt", 1
    while path.exists():
        number += 1
        path = path.with_name(f"step={step}-{number}.pt")
    try:
        write_torch(dict(content), path)
    except WriteError as error:
        return f"the step could not be kept ({error.strerror})"
    return f"repeat the step with spd_lightning.methods.repeat_step({str(path)!r})"


def _by_site(model: ComponentModel[Any]) -> Iterator[tuple[str, nn.Parameter]]:
    """Trained parameters with their place in words."""
    for site, parts in model.components.items():
        yield from ((f"{name} of site {site!r}", parameter) for name, parameter in parts.named_parameters())
    for site, ci_fn in model.ci_fns.items():
        named = ci_fn.named_parameters()
        yield from ((f"{name} of the importance function of site {site!r}", parameter) for name, parameter in named)


def _odd(tensor: Tensor) -> str:
    return "NaN" if tensor.isnan().any() else "infinity"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
