"""What every attention head is good for, and whether its components carry it."""

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import MeanMetric

from spd_lightning.analysis import HeadFlow, attention_flow, components_of_head, silent_head
from spd_lightning.callbacks.evaluation import EvaluationCallback, count_alive, log_scores
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.callbacks.task_performance import fitting_labels, labelled
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.figures import attention_patterns
from spd_lightning.functional import ALIVE_THRESHOLD, attention_pattern, keyed_generator
from spd_lightning.losses import Step, check_positive
from spd_lightning.losses.sources import rounded_masks
from spd_lightning.methods import Decomposition
from spd_lightning.metrics import AliveComponents
from spd_lightning.model.masks import Mask
from spd_lightning.targets import AttentionOnly

Members = Mapping[str, list[int]]
"""Numbers of components by site."""


class AttentionHeads(EvaluationCallback):
    """Ablates the components of one head at a time, beside as many others, and says where importances lie (ours).

    A live component belongs to the head that holds most of its length. By layer and head, as ``heads/LAYER.HEAD``:
    ``components``, how many there are; ``accuracy_without`` them; ``accuracy_without_head``, that of the target when
    the head writes nothing, which is what is left if they are the whole of it; ``accuracy_without_others``, the mean
    over draws of as many live components of other heads; ``concentration``, the share of their summed importance on
    positions where the head acts, and ``acting``, the share of positions where it does. A head acts where attention,
    followed back from the last position, carries at least ``flow``: queries and outputs where it writes, keys and
    values where it reads. ``heads/accuracy`` is that of the target. What is ablated is taken off the target's own
    weights; the delta component stays.

    For targets of the kind :class:`spd_lightning.targets.AttentionOnly` whose batches have labels.

    Args:
        flow: attention from which a head acts at a position.
        draws: sets of other components.
        batches: batches of an evaluation that are looked at.
        threshold: importance above which a component is alive.
        every_n_validations: how often this is done while training.

    Raises:
        UsageError: for a value outside its range, or for another kind of target.
    """

    def __init__(
        self,
        flow: float = 0.2,
        draws: int = 5,
        batches: int = 4,
        threshold: float = ALIVE_THRESHOLD,
        every_n_validations: int = 5,
    ) -> None:
        super().__init__(every_n_validations)
        self.flow = check_positive("AttentionHeads: flow", flow)
        check_whole("AttentionHeads: draws", draws, least=1)
        check_whole("AttentionHeads: batches", batches, least=1)
        self.draws, self.batches = draws, batches
        self.threshold = check_positive("AttentionHeads: threshold", threshold, allow_zero=True)

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there are heads."""
        if not isinstance(pl_module.target, AttentionOnly):
            raise UsageError(
                f"AttentionHeads: looks at an AttentionOnly, not at a {type(pl_module.target).__name__}; remove it "
                "from trainer.callbacks"
            )

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Nothing seen yet."""
        self._alive: dict[str, AliveComponents] = {}
        self._seen: list[Step] = []

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Remember a batch, and what is alive on it."""
        count_alive(self._alive, step, self.threshold)
        if len(self._seen) < self.batches and fitting_labels(step) is not None:
            self._seen.append(step)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Score every head, draw their patterns on rank zero."""
        target = module.target
        assert isinstance(target, AttentionOnly)
        alive = {name: metric.mask().cpu() for name, metric in self._alive.items()}
        parts = dict(module.model.components.items())
        members = {
            (layer, head): components_of_head(parts, alive, f"layers.{layer}", head, target.heads)
            for layer in range(len(target.layers))
            for head in range(target.heads)
        }
        if not self._seen:
            return
        flows = [attention_flow(_patterns(target, step, {})) for step in self._seen]
        scores = {"accuracy": self._accuracy({})}
        for (layer, head), own in members.items():
            found = self._of_head(module, alive, own) | self._places([flow[layer] for flow in flows], own, head)
            with silent_head(target, layer, head):
                found["accuracy_without_head"] = self._accuracy({})
            scores |= {f"{layer}.{head}/{name}": value for name, value in found.items()}
        log_scores(module, f"{stage}/heads", scores)
        if trainer.is_global_zero:
            self._draw(trainer, target, members, stage)

    def _of_head(self, module: Decomposition, alive: Mapping[str, Tensor], own: Members) -> dict[str, float]:
        count = sum(map(len, own.values()))
        others = [
            (name, number)
            for name, living in alive.items()
            for number in torch.nonzero(living).flatten().tolist()
            if number not in own.get(name, ())
        ]
        without = []
        for draw in range(self.draws):
            order = torch.randperm(len(others), generator=keyed_generator(module.seed, "other heads", draw))
            chosen: dict[str, list[int]] = {}
            for index in order[:count].tolist():
                name, number = others[index]
                chosen.setdefault(name, []).append(number)
            without.append(self._accuracy(chosen))
        return {
            "components": count,
            "accuracy_without": self._accuracy(own),
            "accuracy_without_others": sum(without) / len(without),
        }

    def _places(self, flows: list[HeadFlow], own: Members, head: int) -> dict[str, float]:
        """Share of importance on positions where the head acts, and share of such positions."""
        inside, total, acting = 0.0, 0.0, MeanMetric()
        for step, flow in zip(self._seen, flows, strict=True):
            for name, numbers in own.items():
                places = (flow.writes if name.partition("[")[0][-1] in "qo" else flow.reads[:, head]) >= self.flow
                mass = step.importance[name].lower[..., numbers].sum(-1)
                inside += float(mass[places].sum())
                total += float(mass.sum())
                acting.update(places.float().mean())
        return {"concentration": inside / total if total else float("nan"), "acting": acting.compute().item()}

    def _accuracy(self, ablated: Members) -> float:
        """Share of right answers without some components."""
        right, rows = 0, 0
        for step in self._seen:
            fitting = fitting_labels(step)
            assert fitting is not None
            logits, labels = labelled(step.model(step.batch, ablated), fitting)
            right += int((logits.argmax(-1) == labels).sum())
            rows += len(labels)
        return right / rows

    def _draw(
        self, trainer: Trainer, target: AttentionOnly, members: Mapping[tuple[int, int], Members], stage: str
    ) -> None:
        step = self._seen[0]
        ways: dict[str, Mapping[str, Mask]] = {
            "the target": {},
            "important components alone": rounded_masks(step, self.threshold),
        }
        ways |= {f"without {layer}.{head}": step.model.masks_without(own) for (layer, head), own in members.items()}
        tables = {}
        for way, masks in ways.items():
            layers = _patterns(target, step, masks)
            tables[way] = {f"{layer}.{head}": layers[layer][0, head].cpu() for layer, head in members}
        tokens = step.model.call.arguments(step.batch).args[0][0].tolist()
        arrays = {f"{way}/{head}": table for way, heads in tables.items() for head, table in heads.items()}
        figure = attention_patterns(tables, list(map(str, tokens)))
        publish_figure(trainer, f"{stage}/attention_patterns", figure, arrays)


def _patterns(target: AttentionOnly, step: Step, masks: Mapping[str, Mask]) -> list[Tensor]:
    """Attention of every layer, ``[rows, heads, length, length]``."""
    layers = range(len(target.layers))
    paths = [f"layers.{layer}.{part}" for layer in layers for part in "qk"]
    kept = step.model.masked(step.batch, masks, keep=paths).kept
    return [attention_pattern(kept[f"layers.{layer}.q"], kept[f"layers.{layer}.k"], target.heads) for layer in layers]
