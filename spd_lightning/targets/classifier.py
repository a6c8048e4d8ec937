"""Classifiers for first tries on real data, dense and convolutional, and their training on labelled examples."""

import warnings
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import Dataset

from spd_lightning.errors import UsageError, check_fraction, check_list, check_whole
from spd_lightning.files.fingerprint import state_fingerprint
from spd_lightning.functional import keyed_generator
from spd_lightning.functional.schedules import LRSchedule
from spd_lightning.targets.training import TargetTraining


class MLP(nn.Module):
    """Linear layers ``fc1``, ``fc2``, ... with ReLU between them.

    Args:
        widths: of the input, of every hidden layer, and of the output.

    Raises:
        UsageError: if there are fewer than two, or one is no whole number above 0.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        check_list("target: widths", widths)
        for width in widths:
            check_whole("target: widths: each", width, least=1)
        if len(widths) < 2:
            raise UsageError(f"target: widths must name input and output, got {list(widths)}")
        self.widths = list(widths)
        for number, (d_in, d_out) in enumerate(pairwise(widths), 1):
            self.add_module(f"fc{number}", nn.Linear(d_in, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., widths[0]]`` to ``[..., widths[-1]]``."""
        first, *rest = self.children()
        out: Tensor = first(x)
        for layer in rest:
            out = layer(out.relu())
        return out

    def reset_parameters(self) -> None:
        """Draw new weights from torch's global generator."""
        for layer in self.children():
            cast(nn.Linear, layer).reset_parameters()


class CNN(nn.Module):
    """Convolutions ``conv1``, ``conv2``, ..., each followed by ReLU and pooling by two, and a linear layer ``fc``.

    Args:
        image_shape: channels, height and width of an image.
        channels: of every convolution.
        classes: number of outputs.
        kernel_size: height and width of the kernels, odd; the edges are padded with zeros.

    Raises:
        UsageError: for a value outside its range, or images too small to be halved so often.
    """

    def __init__(self, image_shape: list[int], channels: list[int], classes: int, kernel_size: int = 3) -> None:
        super().__init__()
        for name, sizes in {"image_shape": image_shape, "channels": channels}.items():
            check_list(f"target: {name}", sizes)
            for size in sizes:
                check_whole(f"target: {name}: each", size, least=1)
        check_whole("target: classes", classes, least=1)
        check_whole("target: kernel_size", kernel_size, least=1)
        if len(image_shape) != 3:
            raise UsageError(f"target: image_shape must be channels, height and width, got {list(image_shape)}")
        if kernel_size % 2 == 0:
            raise UsageError(f"target: kernel_size must be odd, got {kernel_size}")
        height, width = (size >> len(channels) for size in image_shape[1:])
        if not channels or not min(height, width):
            raise UsageError(
                f"target: channels must name 1 to {min(image_shape[1:]).bit_length() - 1} convolutions for images of "
                f"{image_shape[1]} by {image_shape[2]}, each halves them; got {len(channels)}"
            )
        self.image_shape, self.channels = list(image_shape), list(channels)
        self.classes, self.kernel_size = classes, kernel_size
        for number, (taken, given) in enumerate(pairwise([image_shape[0], *channels]), 1):
            self.add_module(f"conv{number}", nn.Conv2d(taken, given, kernel_size, padding=kernel_size // 2))
        self.fc = nn.Linear(channels[-1] * height * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images, flat ``[rows, numbers]`` or ``[rows, channels, height, width]``, to ``[rows, classes]``."""
        *convolutions, last = self.children()
        out = x.reshape(-1, *self.image_shape)
        for convolution in convolutions:
            out = F.max_pool2d(convolution(out).relu(), 2)
        return cast(Tensor, last(out.flatten(1)))


class ClassifierTraining(TargetTraining):
    """Train a classifier on labelled examples, once, and keep the result in the cache.

    Cross entropy, AdamW, batches drawn with replacement. Works for networks whose modules all have
    ``reset_parameters`` and that take a batch of examples as their one argument.

    Args:
        train: examples, each a pair of the network's input and a whole number.
        steps: number of updates.
        batch_size: examples per update.
        lr: learning rate.
        weight_decay: AdamW's.
        schedule: learning rate over time.
        seed: seeds the start and the batches.
        starts: how often the network is trained at most. Where a start can end in a solution that does not work,
            others are tried, until one names ``least_accuracy`` of the examples right.
        least_accuracy: share of the examples that a trained network must name right. If the last start does not
            either, there is a warning.

    Raises:
        UsageError: for a value outside its range.
    """

    given_by_caller = ("train",)
    """Described by a hash of what it holds."""

    def __init__(
        self,
        train: Dataset,  # type: ignore[type-arg] # the parser of configs takes no Dataset[Any]
        steps: int = 2000,
        batch_size: int = 256,
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        schedule: LRSchedule = "half_cosine",
        seed: int = 0,
        starts: int = 1,
        least_accuracy: float = 0.0,
    ) -> None:
        super().__init__(steps, batch_size, lr, weight_decay, schedule, seed)
        check_whole("recipe: starts", starts, least=1)
        check_fraction("recipe: least_accuracy", least_accuracy)
        if starts > 1 and least_accuracy == 0:
            raise UsageError(f"recipe: starts above 1 need a least_accuracy above 0 to go by, got {starts} starts")
        self.starts, self.least_accuracy = starts, least_accuracy
        self.train = train
        self._examples: tuple[Tensor, Tensor] | None = None

    @property
    def examples(self) -> tuple[Tensor, Tensor]:
        """All inputs ``[examples, ...]`` and labels ``[examples]``, read once."""
        if self._examples is None:
            inputs, labels = zip(*map(self._pair, range(len(self.train))), strict=True)  # type: ignore[arg-type]
            self._examples = torch.stack(inputs), torch.tensor(labels)
        return self._examples

    def _pair(self, index: int) -> tuple[Tensor, int]:
        example = self.train[index]
        if not isinstance(example, tuple | list) or len(example) != 2 or not isinstance(example[0], Tensor):
            raise UsageError("recipe: train must hold pairs of a tensor and a whole number; write a dataset that does")
        return example[0], int(example[1])

    def description(self, network: nn.Module) -> dict[str, Any]:
        """The network and the recipe, with a hash in the place of the examples."""
        inputs, labels = self.examples
        described = super().description(network)
        described["recipe"]["init_args"]["train"] = state_fingerprint({"inputs": inputs, "labels": labels})
        return described

    def prepare(self, network: nn.Module) -> None:
        """Load the trained weights from the cache, or train and fill it; warn if it is not accurate enough."""
        super().prepare(network)
        if not self.will_do(network):
            warnings.warn(
                f"the trained target names {self.accuracy(network):.1%} of its examples right after {self.starts} "
                f"starts, and least_accuracy is {self.least_accuracy:.1%}; give more starts or steps, or another seed",
                stacklevel=2,
            )

    def will_do(self, network: nn.Module) -> bool:
        """Whether enough examples are named right."""
        return self.least_accuracy == 0 or self.accuracy(network) >= self.least_accuracy

    @torch.no_grad()
    def accuracy(self, network: nn.Module) -> float:
        """Share of all examples that the network names right, a batch at a time."""
        inputs, labels = self.examples
        right = 0
        for first in range(0, len(labels), self.batch_size):
            rows = slice(first, first + self.batch_size)
            right += int((network(inputs[rows]).argmax(-1) == labels[rows]).sum())
        return right / len(labels)

    def reset(self, network: nn.Module) -> None:
        """Every module that holds parameters draws them in its own way."""
        for module in network.modules():
            if list(module.parameters(recurse=False)):
                if not hasattr(module, "reset_parameters"):
                    kind = type(module).__name__
                    raise UsageError(
                        f"recipe: ClassifierTraining cannot start a {kind} anew, which has no reset_parameters; "
                        "train the network yourself and use LoadedWeights"
                    )
                cast(nn.Linear, module).reset_parameters()

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Cross entropy of a batch."""
        inputs, labels = self.examples
        generator = keyed_generator(self.seed, step, "target training")
        rows = torch.randint(len(labels), (self.batch_size,), generator=generator)
        return F.cross_entropy(network(inputs[rows]), labels[rows])
