"""A step whose numbers are not finite: where it went wrong, and a file to repeat it from."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import lightning
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import WriteError, write_torch
from spd_lightning.functional import WeightedBatch
from spd_lightning.lightning_private import is_accumulating
from spd_lightning.losses import Noise
from spd_lightning.losses.sharing import largest_over_processes, processes, rows_of_all
from spd_lightning.methods.checkpointed import CHECKPOINT_KEY, KEPT_STEP, keeps_files
from spd_lightning.model import ComponentModel, DecomposedModel
from spd_lightning.model.wrapping import site_of
from spd_lightning.parallel.sharding import gathered, own_part

if TYPE_CHECKING:
    from spd_lightning.methods.decomposition import Decomposition

STEPS_PER_LOOK = 50
KEPT_FORMAT = 2
FEW_NUMBERS = 2**20
BAD_BATCH = "the batch itself is not finite"


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
        return self if processes() == 1 else replace(self, batch=rows_of_all(self.batch))

    def content(self, told: str, seed: int) -> dict[str, Any]:
        """As plain data and tensors on the CPU, with what was said about the step."""
        weighted = isinstance(self.batch, WeightedBatch)
        batch = {"weighted": weighted, "batch": _plain(tuple(self.batch) if weighted else self.batch)}
        return {
            "format": KEPT_FORMAT,
            "told": told,
            "seed": seed,
            **batch,
            "key": list(self.key),
            "progress": self.progress,
        }


class NonFiniteGuard:
    """Stops training before a step whose loss or gradient is not finite, and keeps that step.

    Where several processes share a batch they come to the same decision together: what is looked at is the whole
    batch's.

    Args:
        module: what is trained.
    """

    def __init__(self, module: "Decomposition") -> None:
        self.module = module
        self._running: Running | None = None
        self._parameters: list[nn.Parameter] | None = None

    def begin(self, running: Running) -> None:
        """Note what the step is determined by."""
        self._running = running

    @property
    def running(self) -> Running:
        """The step that is being taken."""
        assert self._running is not None
        return self._running

    def check_loss(self, total: Tensor, terms: dict[str, Tensor]) -> None:
        """Check a step's loss.

        Args:
            total: the weighted sum of the terms.
            terms: each term, by name.

        Raises:
            UsageError: if the sum is not finite; the step is not taken, but kept in a file to repeat it from.
        """
        if not self._looks or math.isfinite(total.item()):
            return
        odd = [f"loss term {name!r} became {term.item()}" for name, term in terms.items() if not term.isfinite()]
        told = (odd or [f"the weighted sum of the losses became {total.item()}"])[0]
        self._stop(f"{told} at step {self.module.global_step}; ", at_site=True)

    def check_gradients(self) -> None:
        """Check the gradients before they reach the parameters.

        Raises:
            UsageError: if one is not finite; the step is not taken, but kept in a file to repeat it from.
        """
        module, alone = self.module, processes() == 1
        if not self._looks or not (alone or not is_accumulating(module.trainer)):
            return  # gradients of processes that still accumulate differ, and one must not stop without the others
        fine = looks_finite(self._trained)
        if module.is_sharded:  # each has seen its part alone
            fine = not largest_over_processes(int(not fine), module.device)
        if fine:
            return
        found = gradient_fault(module.model)
        if found is not None:
            self._stop(f"the gradient became non-finite at step {module.global_step}; {found}{self._by_term()}")

    @property
    def _looks(self) -> bool:
        """Whether this step is looked at; elsewhere than on the CPU every look makes the host wait."""
        return self.module.device.type == "cpu" or self.module.global_step % STEPS_PER_LOOK == 0

    @property
    def _trained(self) -> list[nn.Parameter]:
        """What the optimiser moves; of sharded parameters the shards, even while they are gathered."""
        if self._parameters is None:
            self._parameters = self._trainable()
        return self._parameters

    def _trainable(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.module.model.parameters() if parameter.requires_grad]

    def _by_term(self) -> str:
        """The first term that alone gives such a gradient, each taken again with the same noise."""
        module, running = self.module, self.running
        for name, loss in module.terms().items():
            if loss.waits(running.progress):
                continue
            with torch.enable_grad(), module.whole_parameters(), module.forgetful_terms():
                terms = module.evaluated(running.batch, Noise(running.key, module.device), running.progress)
                term = loss.coefficient_at(running.progress) * terms[name]
                if not term.requires_grad:
                    continue
                # not backward: processes that train together would begin to exchange gradients
                gradients = torch.autograd.grad(term, self._trainable(), allow_unused=True)
            odd = int(any(is_odd(gradient) for gradient in gradients if gradient is not None))
            if odd if processes() == 1 else largest_over_processes(odd, module.device):
                return f", from loss term {name!r}"
        return ""

    def _stop(self, told: str, at_site: bool = False) -> NoReturn:
        """Stop; every process comes here at the same step, and rank zero keeps the step for all."""
        module, whole, place = self.module, self.running.of_all(), ""
        if at_site:
            with module.whole_parameters():
                place = fault(module.model, whole.batch)
        told += place
        stopped = f"{told}; training stopped before that step, earlier checkpoints are kept"
        advice = "look at the data" if place == BAD_BATCH else "try a lower lr or clipping"
        if not keeps_files(module.trainer):
            raise UsageError(f"{stopped}; {advice}")
        folder = Path(module.trainer.log_dir or module.trainer.default_root_dir)  # passed around, so asked by all
        content = gathered(self._content(told, whole))
        kept = (
            keep(folder, module.global_step, content) if module.trainer.is_global_zero else "process 0 keeps the step"
        )
        raise UsageError(f"{stopped}; {advice}; {kept}")

    def _content(self, told: str, whole: Running) -> dict[str, Any]:
        """What the step can be repeated from, in the form of a checkpoint; the parameters are those before it."""
        module = self.module
        return {
            "state_dict": module.state_dict(),
            "optimizer_states": [optimizer.state_dict() for optimizer in module.trainer.optimizers],
            "hyper_parameters": dict(module.hparams),
            "epoch": module.current_epoch,
            "pytorch-lightning_version": lightning.__version__,
            "global_step": module.global_step,
            CHECKPOINT_KEY: module.stamp(),
            KEPT_STEP: whole.content(told, module.seed),
        }


def looks_finite(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether no gradient holds NaN or infinity, in one cheap reduction; a sum that overflows is a false alarm."""
    gradients = [own_part(parameter.grad) for parameter in parameters if parameter.grad is not None]
    if sum(gradient.numel() for gradient in gradients) <= FEW_NUMBERS:
        return not gradients or math.isfinite(torch.cat([g.flatten() for g in gradients]).sum().item())
    return math.isfinite(torch.stack([gradient.sum() for gradient in gradients]).sum().item())


def is_odd(tensor: Tensor) -> bool:
    """Whether a tensor holds NaN or infinity."""
    return not bool(tensor.isfinite().all())


def gradient_fault(model: ComponentModel) -> str | None:
    """The first gradient that holds NaN or infinity, in words; ``None`` if all are finite."""
    for name, parameter in _by_site(model):
        if parameter.grad is not None and is_odd(parameter.grad):
            return f"{_odd(parameter.grad)} in the gradient of {name}"
    return None


@torch.no_grad()
def fault(model: ComponentModel, batch: Any) -> str:
    """Where a batch's numbers stop being finite, in words: the first place on their way."""
    if any(not leaf.isfinite().all() for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)):
        return BAD_BATCH
    for name, parameter in _by_site(model):
        if not parameter.isfinite().all():
            return f"{_odd(parameter)} in {name}"
    clean = model.clean(batch)
    importances = model.importance(clean) if isinstance(model, DecomposedModel) else {}
    for call, site_input in clean.site_inputs.items():
        parts = model.components[site_of(call)]
        places = {
            "its input": site_input,
            "its inner activations": parts.inner(site_input),
            **({"the logits of its importances": importances[call].logits} if importances else {}),
            "the square of what its components leave unexplained": parts.delta().square().sum(),
        }
        for place, tensor in places.items():
            if not tensor.isfinite().all():
                return f"site {call!r}: {_odd(tensor)} in {place}"
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


def _by_site(model: ComponentModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Trained parameters with their place in words."""
    for site, parts in model.components.items():
        yield from ((f"{name} of site {site!r}", parameter) for name, parameter in parts.named_parameters())
    for name, parameter in model.importance_function.named_parameters():
        yield f"{name} of the importance function", parameter


def _odd(tensor: Tensor) -> str:
    return "NaN" if tensor.isnan().any() else "infinity"


def _plain(batch: Any) -> Any:
    """Tensors on the CPU in plain containers, which can be read back without running code."""
    if isinstance(batch, Tensor):
        return batch.detach().cpu()
    if isinstance(batch, Mapping):
        return {key: _plain(item) for key, item in batch.items()}
    return [_plain(item) for item in batch] if isinstance(batch, list | tuple) else batch
