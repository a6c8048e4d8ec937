"""The noise that a step of the package draws, handed to the reference step."""

from benchmarks.reference_step import SiteNoise
from spd_lightning.kernels import row_uniforms
from spd_lightning.losses import Step
from spd_lightning.losses.sources import random_channels, unstored_masks

TERMS = ("stochastic", "layerwise")


def noise_of(step: Step) -> dict[str, dict[str, SiteNoise]]:
    """Per term and site, in float64; the fast step's noise for a fast step, the plain one's otherwise."""
    draw = _plain if step.fast is None else _fast
    return {term: draw(step.named(term)) for term in TERMS}


def _fast(step: Step) -> dict[str, SiteNoise]:
    drawn = {}
    for name, mask in unstored_masks(step, step.noise.generator(0)).items():
        source = row_uniforms(mask.importance.shape, mask.seed, mask.importance, mask.compiled)
        drawn[name] = SiteNoise(source.double(), None if mask.delta is None else mask.delta.double())
    return drawn


def _plain(step: Step) -> dict[str, SiteNoise]:
    channels = random_channels(step, "uniform", step.noise.generator(0))
    if not step.model.use_delta:
        return {name: SiteNoise(channel.double()) for name, channel in channels.items()}
    return {
        name: SiteNoise(channel[..., :-1].double(), channel[..., -1].double()) for name, channel in channels.items()
    }
