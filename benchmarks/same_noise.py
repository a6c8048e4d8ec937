"""The noise that a step of the package draws, handed to the reference step."""

from benchmarks.reference_step import SiteNoise
from spd_lightning.functional import keyed_seed
from spd_lightning.kernels import row_uniforms
from spd_lightning.losses import Step
from spd_lightning.losses.sources import uniform_masks
from spd_lightning.model import UniformMask

TERMS = ("stochastic", "layerwise")


def noise_of(step: Step) -> dict[str, dict[str, SiteNoise]]:
    """Per term and site, in float64."""
    return {term: _drawn(step.named(term)) for term in TERMS}


def _drawn(step: Step) -> dict[str, SiteNoise]:
    drawn, generator = {}, step.noise.generator(0)
    seed = generator.initial_seed()
    for call, mask in uniform_masks(step, generator).items():
        lower = step.importance[call].lower
        if isinstance(mask, UniformMask):
            source = row_uniforms(lower.shape, mask.seed, lower, mask.compiled)
        else:  # a mask that was written out at once
            source = row_uniforms(lower.shape, keyed_seed(seed, step.table_of(call)), lower, compiled=False)
        drawn[call] = SiteNoise(source.detach().double(), None if mask.delta is None else mask.delta.double())
    return drawn
