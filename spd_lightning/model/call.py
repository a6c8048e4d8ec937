"""How a batch becomes the target's arguments, and which part of what it returns is the output."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from spd_lightning.errors import UsageError, check_list, check_whole
from spd_lightning.functional.sampling import WeightedBatch
from spd_lightning.functional.weights import Weights

IGNORED = -100
"""A label that says there is none, as in Hugging Face's data sets."""
LOGITS, MASK, LABELS = "logits", "attention_mask", ("labels", "label", "label_ids")
"""Names that Hugging Face's models and data sets use."""


class Arguments(NamedTuple):
    """What the target is called with, and what its examples or positions weigh.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        weights: see there.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    weights: Weights = Weights()


class TargetCall(ABC):
    """Hands a batch to the target and takes the output from what it returns. A way of your own is a subclass.

    Args:
        output: which part of what the target returns is its output: a name in a ``ModelOutput`` or mapping, an index
            of a tuple, or ``null`` where it returns one tensor.
    """

    def __init__(self, output: str | int | None = None) -> None:
        if isinstance(output, bool) or not (output is None or isinstance(output, str | int)):
            raise UsageError(f"call: output must be a name, an index or null, got {output!r}")
        self.output = output

    def bind(self, target: nn.Module) -> None:
        """Learn what is needed of the target; called once, when it is wrapped."""
        return

    @abstractmethod
    def arguments(self, batch: Any) -> Arguments:
        """The target's arguments for a batch; a :class:`UsageError` that names what the batch lacks."""

    def labels_of(self, batch: Any) -> Tensor | None:
        """Class numbers, one for each position of the output, where the batch holds them; they are never trained on."""
        return None

    def fitting_labels(self, batch: Any, output: Tensor) -> Tensor | None:
        """Labels that fit an output: one for each row of logits, and none too large.

        Args:
            batch: as the call takes it.
            output: of the target on this batch, ``[..., classes]``.

        Returns:
            ``[...]``, :data:`IGNORED` where there is none, or ``None`` where the batch holds no such labels.
        """
        labels = self.labels_of(batch)
        if labels is None or labels.shape != output.shape[:-1] or not labels.numel():
            return None
        known = labels[labels != IGNORED]
        fits = bool(torch.all((known >= 0) & (known < output.shape[-1])))
        return labels.to(output.device).long() if fits and known.numel() else None

    def chosen(self, returned: Any) -> Tensor:
        """The output in what the target returned.

        Raises:
            UsageError: if there is none, or it is no tensor of floating-point numbers.
        """
        output = returned if self.output is None else _part(returned, self.output)
        if not isinstance(output, Tensor):
            raise UsageError(
                f"target: its output must be one tensor, got {_described(output)}; choose one with model.call's output"
            )
        if not output.is_floating_point():
            raise UsageError(
                f"target: its output must be floating-point numbers, got {output.dtype}; choose another one"
            )
        return output


class PositionalCall(TargetCall):
    """Positional arguments from a tensor, or from the parts of a tuple or list.

    Args:
        inputs: which parts of the batch the target takes, in order.
        weights: the part that weighs examples or positions, such as a padding mask; ``null`` for none.
        output: see :class:`TargetCall`.
        labels: the part that holds the right classes, for scores; ``null`` for none.
    """

    def __init__(
        self,
        inputs: list[int] | None = None,
        weights: int | None = None,
        output: str | int | None = None,
        labels: int | None = None,
    ) -> None:
        super().__init__(output)
        check_list("call: inputs", [] if inputs is None else inputs)
        for index in [*(inputs or []), *(part for part in (weights, labels) if part is not None)]:
            check_whole("call: inputs, weights and labels: each", index, least=0)
        self.inputs, self.weights, self.labels = [0] if inputs is None else list(inputs), weights, labels

    def arguments(self, batch: Any) -> Arguments:
        """Parts of the batch by number."""
        if isinstance(batch, WeightedBatch):
            return Arguments((batch.x,), {}, Weights(batch.weights, normalised=True))
        if isinstance(batch, Mapping):
            raise UsageError(f"call: the batch is a mapping with {_keys(batch)}; use KeywordCall with inputs: [...]")
        parts = batch if isinstance(batch, list | tuple) else [batch]
        missing = [index for index in [*self.inputs, self.weights or 0] if index >= len(parts)]
        if missing:
            raise UsageError(f"call: inputs name part {missing[0]} of a batch that has {len(parts)}; name others")
        weights = Weights(None if self.weights is None else parts[self.weights])
        return Arguments(tuple(parts[index] for index in self.inputs), {}, weights)

    def labels_of(self, batch: Any) -> Tensor | None:
        """The part that was named, if the batch has it."""
        if self.labels is None or not isinstance(batch, list | tuple) or self.labels >= len(batch):
            return None
        return class_numbers(batch[self.labels])


FIRST_PART = PositionalCall()
"""A tensor, or the first part of a tuple or list."""


class KeywordCall(TargetCall):
    """Keyword arguments from a batch that is a mapping, as Hugging Face's data sets yield.

    Args:
        inputs: keys of the batch that the target takes under the same name.
        weights: key that weighs examples or positions, such as ``attention_mask``; padding has weight 0.
        output: see :class:`TargetCall`.
        constants: further keyword arguments, the same for every batch, for example ``{use_cache: false}``.
        labels: key of the right classes, one for each position of the output, for scores; ``null`` for none.
        ahead: how many positions ahead of the output a label stands: 1 for a language model whose ``labels`` are its
            ``input_ids``. Positions without a label, or whose label has weight 0, are not scored.
    """

    def __init__(
        self,
        inputs: list[str],
        weights: str | None = None,
        output: str | int | None = None,
        constants: dict[str, bool | int | float | str] | None = None,
        labels: str | None = None,
        ahead: int = 0,
    ) -> None:
        super().__init__(output)
        check_list("call: inputs", inputs)
        check_whole("call: ahead", ahead, least=0)
        self.inputs, self.weights, self.constants = list(inputs), weights, dict(constants or {})
        self.labels, self.ahead = labels, ahead

    def arguments(self, batch: Any) -> Arguments:
        """Entries of the batch by key."""
        if not isinstance(batch, Mapping):
            raise UsageError(
                f"call: KeywordCall takes batches that are mappings, got {_described(batch)}; use PositionalCall"
            )
        for name in [*self.inputs, *([] if self.weights is None else [self.weights])]:
            if name not in batch:
                raise UsageError(f"call: inputs or weights name {name!r}, but the batch holds {_keys(batch)}")
        weights = Weights(None if self.weights is None else batch[self.weights])
        return Arguments((), {**{name: batch[name] for name in self.inputs}, **self.constants}, weights)

    def labels_of(self, batch: Any) -> Tensor | None:
        """The entry that was named, if the batch has it."""
        labels = None if self.labels is None else class_numbers(batch.get(self.labels))
        if labels is None or not self.ahead or labels.dim() < 2:
            return labels
        if self.weights is not None and batch[self.weights].shape == labels.shape:
            labels = labels.masked_fill(batch[self.weights] == 0, IGNORED)
        return F.pad(labels[:, self.ahead :], (0, min(self.ahead, labels.shape[1])), value=IGNORED)


class AutomaticCall(TargetCall):
    """What most networks want, without being told.

    A tensor, or the first part of a tuple or list, is the target's one argument. Of a mapping the target gets, by name,
    what its ``forward`` takes, labels excepted, and ``attention_mask`` weighs the positions if it has their shape. The
    output is the one tensor that is returned, or the ``logits`` of a ``ModelOutput``. Labels, for scores, are the
    second part of a pair, or an entry called ``labels`` or ``label``, if they are one whole number per example.
    """

    def __init__(self) -> None:
        super().__init__()
        self._takes: frozenset[str] | None = frozenset()

    def bind(self, target: nn.Module) -> None:
        """Look up the names that ``forward`` takes."""
        parameters = inspect.signature(target.forward).parameters.values()
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        names = frozenset(parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD)
        self._takes = None if anything and len(names) < 2 else names

    def arguments(self, batch: Any) -> Arguments:
        """See the class."""
        if not isinstance(batch, Mapping):
            return FIRST_PART.arguments(batch)
        taken = {
            name: value
            for name, value in batch.items()
            if name not in LABELS and (self._takes is None or name in self._takes)
        }
        if not taken:
            raise UsageError(f"call: the target takes none of the batch's {_keys(batch)}; say which with KeywordCall")
        mask = batch.get(MASK)
        weighs = isinstance(mask, Tensor) and mask.dim() <= 2  # a larger one says which positions see which
        return Arguments((), taken, Weights(mask if weighs else None))

    def labels_of(self, batch: Any) -> Tensor | None:
        """See the class."""
        if isinstance(batch, Mapping):
            found = next((batch[name] for name in LABELS if name in batch), None)
        else:
            found = batch[1] if isinstance(batch, list | tuple) and len(batch) == 2 else None
        labels = class_numbers(found)
        return labels if labels is not None and labels.dim() == 1 else None

    def chosen(self, returned: Any) -> Tensor:
        """The tensor itself, or the logits."""
        if isinstance(returned, Mapping) and LOGITS in returned:
            return super().chosen(returned[LOGITS])
        return super().chosen(returned)


def class_numbers(found: Any) -> Tensor | None:
    """A tensor of whole numbers, or ``None`` for anything else."""
    whole = isinstance(found, Tensor) and not (found.is_floating_point() or found.is_complex())
    return found if whole and found.dtype != torch.bool else None


def _part(returned: Any, which: str | int) -> Any:
    if isinstance(which, str):
        if isinstance(returned, Mapping) and which in returned:
            return returned[which]
        if hasattr(returned, which):
            return getattr(returned, which)
    elif isinstance(returned, Sequence) and -len(returned) <= which < len(returned):
        return returned[which]
    raise UsageError(f"call: output is {which!r}, but the target returns {_described(returned)}; name another one")


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {_keys(value)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _keys(mapping: Mapping[Any, Any]) -> str:
    return ", ".join(map(repr, mapping)) or "nothing"


def rows_of(batch: Any) -> int | None:
    """Number of examples in a batch: the first dimension of the first tensor in it; ``None`` without one."""
    return next((len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim()), None)
