"""Does every neuron serve in the components which features it serves in the target? (SPD paper, section 3.2)."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from spd_lightning.callbacks.evaluation import EvaluationCallback, log_scores
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.figures import contribution_agreement, feature_contributions
from spd_lightning.figures.contributions import MAX_FEATURES
from spd_lightning.functional import component_contributions, neuron_contributions, pearson
from spd_lightning.methods import Decomposition
from spd_lightning.model import ComponentModel
from spd_lightning.model.streams import LinearStream
from spd_lightning.model.wrapping import Original

REMEDY = "or remove NeuronContributions from trainer.callbacks"


class NeuronContributions(EvaluationCallback):
    """Compares neuron contributions of the target with those of each feature's strongest component, layer by layer.

    For targets with a residual stream (:class:`spd_lightning.model.streams.LinearStream`) that is read off linearly,
    one output per feature, and whose reading and writing layers are all sites. Logs Pearson's correlation over
    features and neurons per reading site, and draws both sides.

    Args:
        n_features: features drawn one by one, at most 20; all of them are scored.
        every_n_validations: how often the analysis runs while training.

    Raises:
        UsageError: if ``n_features`` is out of range.
    """

    def __init__(self, n_features: int = 10, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        check_whole("n_features", n_features, most=None)
        if not 1 <= n_features <= MAX_FEATURES:
            raise UsageError(f"n_features must be between 1 and {MAX_FEATURES}, got {n_features}")
        self.n_features = n_features

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that the target fits."""
        if stage != "predict":
            _check(pl_module.model)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Log the correlations and draw the pictures."""
        target, found, chosen = {}, {}, {}
        stream = _stream(module.target)
        readout, components = _readout(module.model), module.model.components
        for reader, writer in zip(stream.stream_readers, stream.stream_writers, strict=True):
            reading, writing = components[reader], components[writer]
            weights = reading.site.weight(), writing.site.weight()
            target[reader] = neuron_contributions(readout, stream.embedding, *weights)
            parts = reading.V, reading.U, writing.weight()
            found[reader], chosen[reader] = component_contributions(readout, stream.embedding, *parts)
            scores = {"pearson": pearson(target[reader], found[reader])}
            log_scores(module, f"{stage}/recovery/{reader}", scores)
        if trainer.is_global_zero:
            figure = feature_contributions(target, found, chosen, self.n_features)
            arrays = {f"target/{site}": table for site, table in target.items()}
            arrays |= {f"components/{site}": table for site, table in found.items()}
            publish_figure(trainer, f"{stage}/neuron_contributions", figure, arrays)
            publish_figure(trainer, f"{stage}/contribution_agreement", contribution_agreement(target, found), arrays)


def _stream(target: nn.Module) -> LinearStream:
    if not isinstance(target, LinearStream):
        raise UsageError(
            f"NeuronContributions: a {type(target).__name__} has no linear residual stream; give it embedding, "
            f"stream_readers, stream_writers and through(), {REMEDY}"
        )
    return target


def _check(model: ComponentModel) -> None:
    """Refuse a target whose layers cannot be paired, are not all decomposed, or whose outputs are not features."""
    stream = _stream(model.target)
    layers = [*stream.stream_readers, *stream.stream_writers]
    missing = [name for name in layers if name not in model.components]
    if missing:
        raise UsageError(f"NeuronContributions: {missing[0]!r} must be one of the sites; add it, {REMEDY}")
    widths = [
        [model.components[name].site.d_out for name in stream.stream_readers],
        [model.components[name].site.d_in for name in stream.stream_writers],
    ]
    if widths[0] != widths[1]:
        raise UsageError(
            f"NeuronContributions: stream_readers and stream_writers must come in pairs, got {widths[0]} neurons read "
            f"and {widths[1]} written; mend the target, {REMEDY}"
        )
    shapes = list(_readout(model).shape), list(stream.embedding.shape)
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"NeuronContributions: the target must have one output per feature, got {shapes[0][0]} for {shapes[1][0]}; "
            f"mend the target, {REMEDY}"
        )


@torch.no_grad()
def _readout(model: ComponentModel) -> Tensor:
    """How the stream is read off, ``[n_outputs, d_stream]``: the target's response when no layer writes to it."""
    stream = _stream(model.target)
    width = stream.embedding.shape[1]
    units = torch.cat([stream.embedding.new_zeros(1, width), torch.eye(width).to(stream.embedding)])

    def silence(path: str, index: int, hidden: Tensor, original: Original) -> Tensor:
        return hidden.new_zeros(*hidden.shape[:-1], model.components[path].site.d_out)

    with model.wrapping.patched(silence, stream.stream_writers):
        outputs = stream.through(units)
    return (outputs[1:] - outputs[:1]).T
