"""What does each component do, on a network that takes images?"""

import math
from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from torch import Tensor, nn

from spd_lightning.callbacks.evaluation import EvaluationCallback
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.errors import UsageError, check_list, check_whole
from spd_lightning.figures import component_images
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import Step, check_positive
from spd_lightning.methods import Decomposition

MOST_EXAMPLES = 2048
"""Examples that are looked at, the first ones of the data, on the first process."""


class ComponentImages(EvaluationCallback):
    """Draws the components of every site that matter most, a row each.

    Their read vectors as images where a site reads the pixels, whole or patch by patch; the examples on which they are
    most important; and the mean change of every output when one is taken away from the target's weights, over examples
    on which it is alive. Where a site acts at several positions, its importance on an example is the largest.

    Args:
        image_shape: height and width of an example, ``[8, 8]``; the batch's input holds as many numbers.
        components: how many of each site are drawn.
        examples: how many each is shown on.
        threshold: importance above which a component counts as alive.
        every_n_validations: how often the pictures are drawn while training.

    Raises:
        UsageError: for a value outside its range, or inputs of another size.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        components: int = 8,
        examples: int = 5,
        threshold: float = ALIVE_THRESHOLD,
        every_n_validations: int = 5,
    ) -> None:
        super().__init__(every_n_validations)
        check_list("ComponentImages: image_shape", image_shape)
        for size in image_shape:
            check_whole("ComponentImages: image_shape: each", size, least=1)
        if len(image_shape) != 2:
            raise UsageError(f"ComponentImages: image_shape must be height and width, got {list(image_shape)}")
        self.image_shape = list(image_shape)
        self.components = _counted("components", components)
        self.examples = _counted("examples", examples)
        self.threshold = check_positive("threshold", threshold, allow_zero=True)

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Nothing is seen yet."""
        self._seen = 0
        self._inputs: list[Tensor] = []
        self._importances: dict[str, list[Tensor]] = {}

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Keep the first examples, and how important each component is on them."""
        if not trainer.is_global_zero or self._seen >= MOST_EXAMPLES:
            return
        inputs = next(iter((*step.model.call.arguments(step.batch).args, None)))
        if not isinstance(inputs, Tensor) or inputs[0].numel() != math.prod(self.image_shape):
            shape = list(inputs.shape[1:]) if isinstance(inputs, Tensor) else "no tensor"
            raise UsageError(
                f"ComponentImages: image_shape is {self.image_shape}, but an example is {shape}; change it"
            )
        self._seen += len(inputs)
        self._inputs.append(inputs)
        for call, importance in step.importance.items():
            if importance.lower.dim() >= 2 and call in module.model.components:
                rows = importance.lower.flatten(1, -2).amax(1) if importance.lower.dim() > 2 else importance.lower
                self._importances.setdefault(call, []).append(rows)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Draw a figure per site, on rank zero."""
        if not trainer.is_global_zero or not self._inputs:
            return
        inputs = torch.cat(self._inputs)
        for site, parts in self._importances.items():
            importances = torch.cat(parts)
            most = importances.mean(0).topk(min(self.components, importances.shape[1])).indices
            chosen: list[int] = most[importances[:, most].amax(0) > self.threshold].tolist()
            if chosen:
                figure = self._figure(module, site, chosen, inputs, importances)
                publish_figure(trainer, f"{stage}/component_images_{site}", figure)

    def _figure(
        self, module: Decomposition, site: str, chosen: list[int], inputs: Tensor, importances: Tensor
    ) -> Figure:
        best = importances[:, chosen].topk(min(self.examples, len(inputs)), dim=0)
        read = module.model.components[site].V[:, chosen].T
        shape = self._read_shape(module, site, read.shape[1])
        return component_images(
            f"Components of {site} that matter most",
            [str(number) for number in chosen],
            None if shape is None else read.reshape(len(chosen), *shape),
            inputs[best.indices.T].reshape(len(chosen), -1, *self.image_shape),
            best.values.T,
            torch.stack([self._effect(module, site, number, inputs, importances[:, number]) for number in chosen]),
        )

    def _read_shape(self, module: Decomposition, site: str, numbers: int) -> tuple[int, int] | None:
        """Height and width of what the first site reads; ``None`` where it does not read pixels of one colour."""
        if site != next(iter(module.model.components)):
            return None
        layer = module.target.get_submodule(site)
        height, width = layer.kernel_size if isinstance(layer, nn.Conv2d) else self.image_shape
        return (height, width) if height * width == numbers else None

    @torch.no_grad()
    def _effect(self, module: Decomposition, site: str, number: int, inputs: Tensor, importance: Tensor) -> Tensor:
        """Mean change of each output over examples on which the component is alive, ``[outputs]``."""
        alive = inputs[importance > self.threshold]
        with module.model.ablated({site: [number]}):
            changed: Tensor = module.model(alive)
        change: Tensor = changed - module.model(alive, ablated={})
        return change.flatten(0, -2).mean(0)


def _counted(name: str, value: int) -> int:
    check_whole(f"ComponentImages: {name}", value, least=1)
    return value
