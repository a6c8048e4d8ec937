"""Where the values in [0, 1] come from that masks are built from."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Generator, Tensor

from spd_lightning.functional import jittered_importance, mask_from_source, random_source
from spd_lightning.functional.masks import SourceKind
from spd_lightning.functional.seeds import keyed_seed
from spd_lightning.losses.step import Step
from spd_lightning.model import CausalImportance, DecomposedModel, Mask, SiteMask, UniformMask

Sources = Literal["uniform", "binomial", "ci", "ones", "adversarial"]
AdversaryScope = Literal["shared", "per_example"]
EVERY_SITE = "every site"
"""Name of the sources of components that span all sites."""


def masks_from_channels(
    importance: Mapping[str, CausalImportance], channels: Mapping[str, Tensor], use_delta: bool
) -> dict[str, SiteMask]:
    """Masks from sources whose last channel, if ``use_delta``, is the delta component's mask, used as it is.

    Args:
        importance: causal importances per site, ``[..., C]``.
        channels: sources per site, or for :data:`EVERY_SITE`, ``[..., C]`` or ``[..., C + 1]``, broadcastable.
        use_delta: whether the last channel is the delta component's.

    Returns:
        Masks per site.
    """
    masks = {}
    for name, importance_of_site in importance.items():
        source, lower = channels[name if name in channels else EVERY_SITE], importance_of_site.lower
        if not use_delta:
            masks[name] = SiteMask(mask_from_source(lower, source))
            continue
        delta = source[..., -1].expand(lower.shape[:-1])
        masks[name] = SiteMask(mask_from_source(lower, source[..., :-1]), delta)
    return masks


def random_channels(step: Step, kind: SourceKind, generator: Generator) -> dict[str, Tensor]:
    """Sources for every site, example and position; the delta component's are uniform in either kind."""
    channels = {}
    importances = {EVERY_SITE: next(iter(step.importance.values()))} if step.model.spans_sites else step.importance
    for name, importance in importances.items():
        lower = importance.lower
        source = random_source(kind, lower.shape, generator, lower.dtype, step.noise.share)
        if step.model.use_delta:
            delta = random_source("uniform", lower.shape[:-1], generator, lower.dtype, step.noise.share)
            source = torch.cat([source, delta[..., None]], -1)
        channels[name] = source
    return channels


def unstored_masks(step: Step, generator: Generator) -> dict[str, UniformMask]:
    """Uniform masks for all sites whose noise is drawn where it is used, the delta component's excepted."""
    masks, seed = {}, generator.initial_seed()
    for name, importance in step.importance.items():
        lower, delta = importance.lower, None
        if step.model.use_delta:
            delta = random_source("uniform", lower.shape[:-1], generator, lower.dtype, step.noise.share)
        masks[name] = UniformMask(lower, delta, keyed_seed(seed, name), step.compiled, step.noise.share)
    return masks


def stochastic_masks(step: Step, kind: SourceKind, generator: Generator) -> Mapping[str, Mask]:
    """Fresh stochastic masks for all sites, the delta component included if the model uses one."""
    if step.fast is not None and kind == "uniform":
        return unstored_masks(step, generator)
    importance = step.importance
    if kind == "binomial":
        assert isinstance(step.model, DecomposedModel)
        importance = {
            name: ci._replace(lower=jittered_importance(ci.logits, step.model.leak, generator, step.noise.share))
            for name, ci in importance.items()
        }
    return masks_from_channels(importance, random_channels(step, kind, generator), step.model.use_delta)


def adversary_start(step: Step, scope: AdversaryScope, generator: Generator) -> dict[str, Tensor]:
    """Uniform sources that an adversary starts from: one for the whole batch, or one per example."""
    if scope == "per_example":
        return random_channels(step, "uniform", generator)
    channels = random_channels(step.with_first_row_noise(), "uniform", generator)
    return {name: c.reshape(-1, c.shape[-1])[:1].reshape(*[1] * (c.dim() - 1), -1) for name, c in channels.items()}


def fixed_masks(step: Step, kind: Literal["ci", "ones"]) -> dict[str, SiteMask]:
    """Importances as masks, or all ones; the delta component takes no part in either."""
    if kind == "ones":
        return {name: SiteMask(torch.ones_like(ci.lower)) for name, ci in step.importance.items()}
    return {name: SiteMask(ci.lower) for name, ci in step.importance.items()}
