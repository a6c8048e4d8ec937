"""Does the network survive what the importances allow to be ablated?"""

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import MeanMetric

from spd_lightning.callbacks.evaluation import (
    EvaluationCallback,
    log_headline,
    log_scores,
    matched_components,
    probe_importances,
)
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.errors import UsageError, check_list, check_whole
from spd_lightning.figures import ablation_dots, ablation_matrix
from spd_lightning.functional import ALIVE_THRESHOLD, active_counts, mean_output
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import Reconstruction, Step, check_positive
from spd_lightning.losses.sharing import sum_over_processes
from spd_lightning.losses.sources import rounded_masks, zero_masks
from spd_lightning.methods import Decomposition
from spd_lightning.model import ComponentModel
from spd_lightning.report.rows import ABLATIONS, ablation_rows
from spd_lightning.runs.findings import JUDGED, relative

NUMBERS_AT_ONCE, MOST_DRAWN = 2**24, 300


class AblationCheck(EvaluationCallback):
    """Distance from the target's output under six kinds of masks, and what ablating single components changes.

    ``unmasked`` (all ones), ``ci_masked`` (importances as masks), ``rounded`` (importance above a threshold), ``zero``:
    without the delta component. ``stochastic`` and ``worst_case``: with it, if the model uses one. The worst case is
    found by projected gradient ascent on one fresh source per component, shared by the batch, and is the headline:
    random masks rarely meet the worst combination. After training the ascent goes on, on the first batch, to the end
    of a ladder (``ladder_20``, ...). ``constant`` is no mask but a unit beside ``zero``: the distance of the best
    output that does not look at the input.

    Args:
        distance: ``"mse"`` or ``"kl"``; ``null`` for the one that is trained.
        adversary_steps: signed gradient steps of the worst case.
        adversary_step_size: length of one of them; steps times size around 2 crosses the whole range.
        ladder: numbers of steps of the adversary that is followed after training; empty for none.
        rounding_threshold: importance above which ``rounded`` keeps a component.
        probe: magnitude of the one-hot probes for single ablations.
        every_n_validations: how often the check runs while training.
    """

    def __init__(
        self,
        distance: DistanceKind | None = None,
        adversary_steps: int = 20,
        adversary_step_size: float = 0.1,
        ladder: Sequence[int] = (20, 80, 320),
        rounding_threshold: float = ALIVE_THRESHOLD,
        probe: float = 0.75,
        every_n_validations: int = 1,
    ) -> None:
        super().__init__(every_n_validations)
        check_positive("rounding_threshold", rounding_threshold, allow_zero=True)
        check_positive("probe", probe)
        check_list("AblationCheck: ladder", ladder)
        for rung in ladder:
            check_whole("AblationCheck: ladder: each", rung, least=1)
        self.ladder = list(ladder)
        self.distance, self.rounding_threshold, self.probe = distance, rounding_threshold, probe
        self.adversary_steps, self.adversary_step_size = adversary_steps, adversary_step_size
        self._compared_by("mse" if distance is None else distance)  # so that wrong values are refused at once

    def _compared_by(self, distance: DistanceKind) -> None:
        self._distance = distance
        ascent = {"adversary_steps": self.adversary_steps, "adversary_step_size": self.adversary_step_size}
        self._reconstructions = {
            "unmasked": Reconstruction(sources="ones", distance=distance),
            "ci_masked": Reconstruction(sources="ci", distance=distance),
            "stochastic": Reconstruction(distance=distance),
            "worst_case": Reconstruction(sources="adversarial", distance=distance, **ascent),  # type: ignore[arg-type]
        }

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that gradients are possible in evaluation."""
        loops = (trainer.validate_loop, trainer.test_loop)
        if stage in ("validate", "test") and any(loop.inference_mode for loop in loops):
            raise UsageError("AblationCheck needs gradients for its worst case; set trainer.inference_mode: false")

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Fresh means per regime."""
        self._compared_by(module.distance if self.distance is None else self.distance)
        self._means: dict[str, MeanMetric] = {}
        self._l0: dict[str, MeanMetric] = {}

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Compare one batch under every regime."""
        scores = {name: loss(step.named(name)) for name, loss in self._reconstructions.items()}
        for name, masks in (("rounded", rounded_masks(step, self.rounding_threshold)), ("zero", zero_masks(step))):
            scores[name] = step.distance(self._distance, step.masked(masks))
        scores["constant"] = step.distance(self._distance, self._constant(step))
        if trainer.state.fn != "fit":
            scores |= self._climbed(step)
        for name, score in scores.items():
            self._means.setdefault(name, MeanMetric().to(module.device)).update(score, weight=step.mass)
        for call in step.tables:
            counts = active_counts(step.counted(step.importance[call].lower), self.rounding_threshold)
            self._l0[call] = self._l0.get(call, MeanMetric().to(module.device))
            self._l0[call].update(counts.float())

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Log and draw the distances; draw single ablations where there are probes."""
        scores = {name: mean.compute().item() for name, mean in self._means.items()}
        log_scores(module, f"{stage}/ablation", scores)
        named = {f"ablation/{name}": score for name, score in scores.items()}
        log_headline(module, {f"relative_distance/{name}": relative(named, name) for name in JUDGED})
        # either number alone is easy to make small
        l0 = sum(mean.compute().item() for mean in self._l0.values())
        metric = f"{self._distance}, at L0 {l0:.2f} over all sites"
        if trainer.is_global_zero:
            publish_figure(trainer, f"{stage}/ablation_distances", _dots(scores, metric))
        if hasattr(trainer.datamodule, "probes"):  # type: ignore[attr-defined]
            self._draw_single_ablations(trainer, module, stage)

    def _climbed(self, step: Step) -> dict[str, Tensor]:
        """What the adversary reaches after training; the first batch is enough to tell."""
        if any(name.startswith("ladder") for name in self._means):
            return {}
        reached = self._reconstructions["worst_case"].ladder(step.named("worst_case"), self.ladder)
        return {f"ladder_{steps}": score for steps, score in reached.items()}

    def _constant(self, step: Step) -> Tensor:
        """The nearest output that does not look at the input, as large as the output."""
        output = step.clean.output
        weights = None if step.weights.values is None else step.weights.raw(output.shape[:-1])
        combine = None if step.noise.share is None else sum_over_processes
        return mean_output(self._distance, output, weights, combine).to(output).expand_as(output)

    def _draw_single_ablations(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        tables = probe_importances(trainer, module, self.probe)
        probes = trainer.datamodule.probes(self.probe).to(module.device)  # type: ignore[attr-defined]
        tables = {call: tables[call] for call in module.model.mechanisms.tables.values() if call in tables}
        alive = matched_components(module, tables, self.rounding_threshold)
        live = {name: components[:MOST_DRAWN] for name, components in alive.items()}
        effects = {name: _single_ablations(module, probes, name, live[name]) for name in live}
        if trainer.is_global_zero:
            publish_figure(trainer, f"{stage}/single_ablations", ablation_matrix(effects, live))


def _dots(scores: dict[str, float], metric: str) -> Figure:
    """Every regime by the words of the tables, beside a line at what ablating everything costs."""
    words = {f"ablation/{name}": score for name, score in scores.items()}
    named = {text: scores[name] for name, text, _ in ablation_rows(words) if name not in ("zero", "constant")}
    return ablation_dots(named, scores["zero"], metric, ABLATIONS["zero"])


def _single_ablations(module: Decomposition, probes: Tensor, site: str, live: list[int]) -> Tensor:
    """Mean squared change of the unmasked output when one component is ablated, ``[n_probes, n_live]``."""
    if not live:
        return torch.zeros(len(probes), 0)
    unmasked: Tensor = module.model(probes)
    widest = max(parts.n_components for parts in module.model.components.values())
    at_once = max(NUMBERS_AT_ONCE // (len(probes) * widest), 1)
    parts = [live[first : first + at_once] for first in range(0, len(live), at_once)]
    changes = [module.model.masked(*_without(module.model, probes, site, part)).output - unmasked for part in parts]
    return torch.cat([change.square().mean(-1) for change in changes]).T


def _without(model: ComponentModel, probes: Tensor, site: str, ablated: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Probes, once for each ablated component, and the masks that turn it off."""
    masks = {
        name: probes.new_ones(len(ablated), *[1] * (probes.dim() - 1), parts.n_components)
        for name, parts in model.components.items()
    }
    for row, component in enumerate(ablated):  # with what belongs to it at other sites
        for name, members in model.mechanisms.members(site, component).items():
            masks[name][row, ..., members] = 0
    return probes.expand(len(ablated), *probes.shape), masks
