"""How many components are in use."""

from lightning.pytorch import Trainer

from spd_lightning.callbacks.evaluation import EvaluationCallback, log_headline, log_scores
from spd_lightning.callbacks.publishing import keep_arrays
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import Step
from spd_lightning.losses.base import check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.metrics import ActiveComponents, AliveComponents


class ComponentActivity(EvaluationCallback):
    """Logs per site call L0, the mean number of active components per example, and the number of alive components.

    A component is active where its lower-leaky importance exceeds the threshold, and alive if it is active on any
    example of the epoch. ``analysis/density.safetensors`` holds, by site call, the share of examples and positions on
    which each component was active in the last validation or test, ``[C]``; ``analysis/steps/step=N/`` those of every
    validation while training.

    Args:
        threshold: importance above which a component is active.
    """

    def __init__(self, threshold: float = ALIVE_THRESHOLD) -> None:
        super().__init__()
        self.threshold = check_positive("threshold", threshold, allow_zero=True)

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Fresh counters per site call."""
        self._l0: dict[str, ActiveComponents] = {}
        self._alive: dict[str, AliveComponents] = {}

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Count one batch."""
        for name, importance in step.importance.items():
            if name not in self._l0:
                self._l0[name] = ActiveComponents(self.threshold).to(module.device)
                count = importance.lower.shape[-1]
                self._alive[name] = AliveComponents(count, self.threshold).to(module.device)
            counted = step.counted(importance.lower)
            self._l0[name].update(counted)
            self._alive[name].update(counted)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Log both numbers per site call, and as the verdict has them: over all, and L0 as a share of the alive."""
        l0 = {name: metric.compute().item() for name, metric in self._l0.items()}
        alive = {name: metric.compute().item() for name, metric in self._alive.items()}
        log_scores(module, f"{stage}/l0", l0)
        log_scores(module, f"{stage}/alive", alive)
        total, living = sum(l0.values()), sum(alive.values())
        log_headline(module, {"l0": total, "l0_of_alive": total / living if living else None})
        self._keep(trainer)

    def _keep(self, trainer: Trainer) -> None:
        """Write how often each component is active; every process puts its counts together, rank zero writes."""
        densities = {name: metric.density().float() for name, metric in self._alive.items()}
        notes = {"threshold": f"{self.threshold:g}", "step": str(trainer.global_step)}
        keep_arrays(trainer, "density", densities, notes)
        if trainer.state.fn == "fit":
            keep_arrays(trainer, f"steps/step={trainer.global_step}/density", densities, notes)
