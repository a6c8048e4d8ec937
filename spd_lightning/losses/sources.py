"""Where the values in [0, 1] come from that masks are built from."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Generator, Tensor

from spd_lightning.functional import jittered_importance, mask_from_source, random_source
from spd_lightning.functional.masks import SourceKind
from spd_lightning.functional.seeds import keyed_seed
from spd_lightning.losses.step import Step
from spd_lightning.model import CausalImportance, DecomposedModel, Mask, SiteMask

Sources = Literal["uniform", "binomial", "ci", "ones", "adversarial"]
AdversaryScope = Literal["shared", "per_example"]


def masks_from_channels(
    step: Step, importance: Mapping[str, CausalImportance], channels: Mapping[str, Tensor]
) -> dict[str, SiteMask]:
    """Masks from sources whose last channel, if the model uses one, is the delta component's mask, used as it is.

    Args:
        step: the batch.
        importance: causal importances per site call, ``[..., C]``.
        channels: sources per table, ``[..., C]`` or ``[..., C + 1]``, broadcastable.

    Returns:
        Masks per site call.
    """
    masks = {}
    for call, importance_of_call in importance.items():
        source, lower = channels[step.table_of(call)], importance_of_call.lower
        if not step.model.use_delta:
            masks[call] = SiteMask(mask_from_source(lower, source))
            continue
        delta = source[..., -1].expand(lower.shape[:-1])
        masks[call] = SiteMask(mask_from_source(lower, source[..., :-1]), delta)
    return masks


def random_channels(step: Step, kind: SourceKind, generator: Generator, least: int = 0) -> dict[str, Tensor]:
    """Sources for every table of importances, example and position; the delta component's are uniform in either kind.

    Components that are one mechanism across sites have one table, and so share their sources; else every site call has
    its own.

    Args:
        step: the batch.
        kind: of the sources.
        generator: where they are drawn from.
        least: number of rows to draw where there are fewer here: a process may hold none of a batch.
    """
    channels: dict[str, Tensor] = {}
    for call, importance in step.importance.items():
        table, lower = step.table_of(call), importance.lower
        if table in channels:
            continue
        shape = torch.Size([max(len(lower), least), *lower.shape[1:]])
        channels[table] = random_source(kind, shape, generator, lower.dtype, step.noise.share)
        if step.model.use_delta:
            delta = _delta(step, shape, lower, generator)
            channels[table] = torch.cat([channels[table], delta[..., None]], -1)
    return channels


def _delta(step: Step, shape: torch.Size, like: Tensor, generator: Generator) -> Tensor:
    return random_source("uniform", shape[:-1], generator, like.dtype, step.noise.share)


def first_row_channels(step: Step, generator: Generator) -> dict[str, Tensor]:
    """Uniform sources whose first row is the same on every process that shares a batch, whatever rows it holds."""
    return random_channels(step.with_first_row_noise(), "uniform", generator, least=1)


def uniform_masks(step: Step, generator: Generator) -> dict[str, Mask]:
    """Masks of uniform sources for all site calls, each keyed by its name under the generator's seed."""
    masks, seed = {}, generator.initial_seed()
    for call, importance in step.importance.items():
        lower = importance.lower
        delta = _delta(step, lower.shape, lower, generator) if step.model.use_delta else None
        masks[call] = step.form.uniform_mask(call, delta, keyed_seed(seed, step.table_of(call)), step.noise.share)
    return masks


def stochastic_masks(step: Step, kind: SourceKind, generator: Generator) -> Mapping[str, Mask]:
    """Fresh stochastic masks for all site calls, the delta component included if the model uses one."""
    if kind == "uniform":
        return uniform_masks(step, generator)
    assert isinstance(step.model, DecomposedModel)
    importance = {
        call: ci._replace(lower=jittered_importance(ci.logits, step.model.leak, generator, step.noise.share))
        for call, ci in step.importance.items()
    }
    return masks_from_channels(step, importance, random_channels(step, kind, generator))


def adversary_start(step: Step, scope: AdversaryScope, generator: Generator) -> dict[str, Tensor]:
    """Uniform sources that an adversary starts from: one for the whole batch, or one per example."""
    if scope == "per_example":
        return random_channels(step, "uniform", generator)
    channels = first_row_channels(step, generator)
    return {call: c.reshape(-1, c.shape[-1])[:1].reshape(*[1] * (c.dim() - 1), -1) for call, c in channels.items()}


def fixed_masks(step: Step, kind: Literal["ci", "ones"]) -> dict[str, SiteMask]:
    """Importances as masks, or all ones; the delta component takes no part in either."""
    if kind == "ones":
        return {name: SiteMask(torch.ones_like(ci.lower)) for name, ci in step.importance.items()}
    return {name: SiteMask(ci.lower) for name, ci in step.importance.items()}


def rounded_masks(step: Step, threshold: float) -> dict[str, SiteMask]:
    """One where the importance is above a threshold, else zero; no delta component."""
    kept = {call: ci.lower > threshold for call, ci in step.importance.items()}
    return {call: SiteMask(keep.to(step.importance[call].lower.dtype)) for call, keep in kept.items()}


def zero_masks(step: Step) -> dict[str, SiteMask]:
    """Everything ablated, the delta component included."""
    return {call: SiteMask(torch.zeros_like(ci.lower)) for call, ci in step.importance.items()}
