"""Does the network survive what the importances allow to be ablated?"""

import json
from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import MeanMetric

from spd_lightning.callbacks.evaluation import (
    SEQUENCES,
    EvaluationCallback,
    has_probes,
    log_headline,
    log_scores,
    matched_components,
    probes_of,
)
from spd_lightning.callbacks.publishing import keep_arrays, publish_figure, weights_of
from spd_lightning.callbacks.single_ablations import Effects, single_ablations
from spd_lightning.errors import UsageError, check_list, check_whole
from spd_lightning.figures import ablation_dots, ablation_matrix
from spd_lightning.functional import ALIVE_THRESHOLD, active_counts, mean_output
from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import Reconstruction, Step, check_positive
from spd_lightning.losses.sharing import sum_over_processes
from spd_lightning.losses.sources import rounded_masks, zero_masks
from spd_lightning.methods import Decomposition
from spd_lightning.report.rows import ABLATIONS, ablation_rows
from spd_lightning.runs.findings import JUDGED, relative
from spd_lightning.targets import OwnProbes

FORMAT, MOST_DRAWN = 1, 300


class AblationCheck(EvaluationCallback):
    """Distance from the target's output under six kinds of masks, and what ablating single components changes.

    ``unmasked`` (all ones), ``ci_masked`` (importances as masks), ``rounded`` (importance above a threshold), ``zero``:
    without the delta component. ``stochastic`` and ``worst_case``: with it, if the model uses one. The worst case is
    found by projected gradient ascent on one fresh source per component, shared by the batch, and is the headline:
    random masks rarely meet the worst combination. After training the ascent goes on, on the first batch, to the end
    of a ladder (``ladder_20``, ...). ``constant`` is no mask but a unit beside ``zero``: the distance of the best
    output that does not look at the input.

    Where there are probes, each component that is alive on them is ablated alone: ``analysis/ablations.safetensors``
    holds, by site call, the mean absolute ``change/CALL`` of each output, ``[C, outputs]``, and the mean
    ``distance/CALL``, ``[C]``, both from the output of all components. Others than the first 300 alive ones are NaN.

    Args:
        distance: ``"mse"`` or ``"kl"``; ``null`` for the one that is trained.
        adversary_steps: signed gradient steps of the worst case.
        adversary_step_size: length of one of them; steps times size around 2 crosses the whole range.
        ladder: numbers of steps of the adversary that is followed after training; empty for none.
        rounding_threshold: importance above which ``rounded`` keeps a component.
        probe: magnitude of the one-hot probes for single ablations; a target's own are the first four.
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
        if has_probes(trainer, module):
            self._ablate_singly(trainer, module, stage)

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

    def _ablate_singly(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Keep what single ablations change; draw it where rows are features."""
        own = isinstance(module.target, OwnProbes)
        probes = probes_of(trainer, module, self.probe)[: SEQUENCES if own else None]
        found = module.model.importance_of(probes)
        tables = {
            call: found[call].lower.flatten(0, -2).cpu()
            for call in module.model.mechanisms.tables.values()
            if call in found
        }
        alive = matched_components(module, tables, self.rounding_threshold)
        live = {name: components[:MOST_DRAWN] for name, components in alive.items()}
        kind = module.distance if self.distance is None else self.distance
        effects = {name: single_ablations(module.model, probes, found, name, live[name], kind) for name in live}
        counts = {name: table.shape[1] for name, table in tables.items()}
        about = {"format": FORMAT, "step": trainer.global_step, "distance": kind, "probes": len(probes)}
        notes = {"ablations": json.dumps(about | {"weights": weights_of(trainer, module)})}
        keep_arrays(trainer, "ablations", _in_place(effects, live, counts), notes)
        if trainer.is_global_zero and not own:
            squared = {name: effect.squared for name, effect in effects.items()}
            publish_figure(trainer, f"{stage}/single_ablations", ablation_matrix(squared, live), squared)


def _in_place(
    effects: Mapping[str, Effects], live: Mapping[str, list[int]], counts: Mapping[str, int]
) -> dict[str, Tensor]:
    """Effects of all components of each site call, NaN for those that were not ablated."""
    arrays = {}
    for name, (_, change, distance) in effects.items():
        for part, values in (("change", change), ("distance", distance)):
            table = torch.full((counts[name], *values.shape[1:]), torch.nan)
            table[live[name]] = values.float().cpu()
            arrays[f"{part}/{name}"] = table
    return arrays


def _dots(scores: dict[str, float], metric: str) -> Figure:
    """Every regime by the words of the tables, beside a line at what ablating everything costs."""
    words = {f"ablation/{name}": score for name, score in scores.items()}
    named = {text: scores[name] for name, text, _ in ablation_rows(words) if name not in ("zero", "constant")}
    return ablation_dots(named, scores["zero"], metric, ABLATIONS["zero"])
