"""May what is not important be ablated? (scrubbing test of the APD paper, arXiv 2501.14926)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import MeanMetric

from spd_lightning.callbacks.evaluation import EvaluationCallback, check_probes, log_scores
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.errors import UsageError, check_list, check_whole
from spd_lightning.figures import ScrubbedErrors, scrubbing_histograms
from spd_lightning.functional import ALIVE_THRESHOLD, random_source
from spd_lightning.losses import Noise, Step, check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.model import CausalImportance, CleanPass, ComponentModel, SiteMask

NUMBERS_AT_ONCE = 2**22
EDGES = torch.logspace(-12, 4, 81, dtype=torch.float64)
"""Between the bins of the histograms, five to a decade."""
DRAWN = ("kept", "ablated")
EXAMPLES = {"val": "validation examples", "test": "test examples"}


class ScrubbingTest(EvaluationCallback):
    """Output error when a random half of the components is ablated, by whether the important ones are spared.

    A draw ablates each component with probability 1/2. ``kept``: except those that are important on the example, which
    all stay on. ``ablated``: the same draw with all of these off. The delta component takes no part, and a component
    that spans all sites is on or off in all of them. Errors are squared differences from the target's own output, mean
    over outputs. Where nothing is important on an example, both errors are the same.

    Logged and drawn for the validation examples and, where the data module has them, for one-hot probes. All draws
    are the same at every validation.

    Args:
        draws: per probe.
        data_draws: per example.
        threshold: importance above which a component is important.
        probe: magnitude of the one-hot probes.
        features: which of them are probed; ``null`` for all.
        every_n_validations: how often the test runs while training.

    Raises:
        UsageError: for a value out of range.
    """

    def __init__(
        self,
        draws: int = 100,
        data_draws: int = 1,
        threshold: float = ALIVE_THRESHOLD,
        probe: float = 0.75,
        features: list[int] | None = None,
        every_n_validations: int = 5,
    ) -> None:
        super().__init__(every_n_validations)
        check_whole("draws", draws, least=1)
        check_whole("data_draws", data_draws, least=1)
        check_positive("threshold", threshold, allow_zero=True)
        check_positive("probe", probe)
        if features is not None:
            _check_features(features)
        self.draws, self.data_draws, self.threshold = draws, data_draws, threshold
        self.probe, self.features = probe, features

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there are probes of the chosen features."""
        if self.features is None or stage == "predict":
            return
        check_probes(self, trainer)
        count = len(trainer.datamodule.probes(self.probe))  # type: ignore[attr-defined]
        if max(self.features) >= count:
            raise UsageError(f"features must be below {count}, the number of probes, got {max(self.features)}")

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Fresh counts."""
        self._data = _Tally(module.device)

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Scrub one batch."""
        self._data.scrub(step.named("scrubbing"), self.threshold, self.data_draws)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Scrub the probes, log and draw."""
        views = {}
        if hasattr(trainer.datamodule, "probes"):  # type: ignore[attr-defined]
            probes = self._scrubbed_probes(trainer, module)
            log_scores(module, f"{stage}/scrubbing", probes.scores("probes"))
            views[probes.described("one-hot probes")] = probes.errors()  # the same on all processes
        log_scores(module, f"{stage}/scrubbing", self._data.scores("data"))
        self._data.sum_counts(trainer)
        views[self._data.described(EXAMPLES[stage])] = self._data.errors()
        if trainer.is_global_zero:
            shown = ((view, errors._asdict()) for view, errors in views.items())
            arrays = {f"{view}/{name}": torch.as_tensor(value) for view, some in shown for name, value in some.items()}
            publish_figure(trainer, f"{stage}/scrubbing", scrubbing_histograms(views, EDGES), arrays)

    def _scrubbed_probes(self, trainer: Trainer, module: Decomposition) -> "_Tally":
        probes = trainer.datamodule.probes(self.probe).to(module.device)  # type: ignore[attr-defined]
        x = probes if self.features is None else probes[self.features]
        return _scrubbed(module.model, x, module.seed, self.threshold, self.draws)


def scrubbing_errors(
    model: ComponentModel, x: Tensor, seed: int = 0, threshold: float = ALIVE_THRESHOLD, draws: int = 100
) -> dict[str, float]:
    """The test on given examples, without a trainer.

    Args:
        model: of either method.
        x: the target's input.
        seed: of the draws.
        threshold: importance above which a component is important.
        draws: per example.

    Returns:
        Mean squared errors of the output, ``kept`` and ``ablated``.
    """
    with torch.no_grad():
        return _scrubbed(model, x, seed, threshold, draws).scores()


def _scrubbed(model: ComponentModel, x: Tensor, seed: int, threshold: float, draws: int) -> "_Tally":
    noise, tally = Noise((seed, "scrubbing", "probes"), x.device), _Tally(x.device)
    tally.scrub(Step(_Seen(model, x, model.clean(x), model.importance_of(x)), noise), threshold, draws)  # type: ignore[arg-type]
    return tally


class _Seen(NamedTuple):
    """Examples with the importances that they have by themselves; as much of a form as this test asks for."""

    model: ComponentModel
    batch: Any
    clean: CleanPass
    importance: Mapping[str, CausalImportance]


def _check_features(features: list[int]) -> None:
    check_list("features", features)
    if not features:
        raise UsageError("features must name at least one feature, or be null for all, got []")
    for feature in features:
        check_whole("features", feature, least=0)


class _Tally:
    """Errors of one view: their means, over all processes, and how many fall into each bin."""

    def __init__(self, device: torch.device) -> None:
        self._means = {name: MeanMetric().to(device) for name in (*DRAWN, "unmasked", "zero", "idle")}
        self._counts = {name: torch.zeros(len(EDGES) + 1, dtype=torch.long, device=device) for name in DRAWN}

    def scrub(self, step: Step, threshold: float, draws: int) -> None:
        """Add the errors of so many draws per example, as many of them at once as memory allows."""
        important = {name: ci.lower > threshold for name, ci in step.importance.items()}
        self._means["idle"].update(_idle(step, important))
        for name, like in (("unmasked", torch.ones_like), ("zero", torch.zeros_like)):
            self._means[name].update(_errors(step, {site: like(table)[None] for site, table in important.items()}))
        at_once = _draws_at_once(step)
        for first in range(0, draws, at_once):
            halves = _random_halves(step, range(first, min(first + at_once, draws)))
            self._count("kept", _errors(step, {name: half | important[name] for name, half in halves.items()}))
            self._count("ablated", _errors(step, {name: half & ~important[name] for name, half in halves.items()}))

    def sum_counts(self, trainer: Trainer) -> None:
        """Sum the counts over all processes."""
        self._counts = {name: trainer.strategy.reduce(n, reduce_op="sum") for name, n in self._counts.items()}

    def scores(self, view: str = "") -> dict[str, float]:
        """Mean errors of both kinds of draws, by the name to log."""
        return {f"{view}_{name}".strip("_"): self._means[name].compute().item() for name in DRAWN}

    def errors(self) -> ScrubbedErrors:
        """What the picture shows."""
        unmasked, zero = (self._means[name].compute().item() for name in ("unmasked", "zero"))
        return ScrubbedErrors(**self._counts, unmasked=unmasked, zero=zero)

    def described(self, view: str) -> str:
        """The name of the view, with the share of examples on which both kinds of draws are the same."""
        idle = self._means["idle"].compute().item()
        return f"{view} ({idle:.1%} without important components)" if idle else view

    def _count(self, name: str, errors: Tensor) -> None:
        self._means[name].update(errors)
        bins = torch.bucketize(errors.cpu().double(), EDGES, right=True)
        self._counts[name] += torch.bincount(bins, minlength=len(EDGES) + 1).to(self._counts[name].device)


def _random_halves(step: Step, draws: range) -> dict[str, Tensor]:
    """Which components each draw leaves on.

    Args:
        step: the examples, and the noise, which is keyed by draw and site, however many draws are made at once.
        draws: numbers of the draws.

    Returns:
        Booleans ``[draws, ..., C]`` per site, one tensor for all sites where components span them.
    """
    halves = {call: _halves(step.noise, call, step.importance[call].lower, draws) for call in step.tables}
    return {call: halves[step.table_of(call)] for call in step.importance}


def _idle(step: Step, important: Mapping[str, Tensor]) -> Tensor:
    """Share of examples without any important component, one number per example."""
    rows = [table.reshape(len(step.clean.output), -1).any(-1) for table in important.values()]
    return (~torch.stack(rows).any(0)).float()


def _halves(noise: Noise, name: str, lower: Tensor, draws: range) -> Tensor:
    generators = (noise.generator(draw, name) for draw in draws)
    return torch.stack([random_source("binomial", lower.shape, g, share=noise.share).bool() for g in generators])


def _draws_at_once(step: Step) -> int:
    """As many as keep masks and inner activations within :data:`NUMBERS_AT_ONCE`; one if the input is not a tensor."""
    if not isinstance(step.batch, Tensor):
        return 1
    examples = step.clean.output[..., 0].numel()
    numbers: int = examples * sum(parts.V[0].numel() for parts in step.model.components.values())
    return max(NUMBERS_AT_ONCE // max(numbers, 1), 1)


def _errors(step: Step, on: Mapping[str, Tensor]) -> Tensor:
    """Squared errors with some components on, mean over outputs, one number per draw, example and position.

    Args:
        step: the examples.
        on: booleans ``[draws, ..., C]`` per site.

    Returns:
        A vector.
    """
    draws, clean = len(next(iter(on.values()))), step.clean.output
    x = step.batch if draws == 1 else step.batch.expand(draws, *step.batch.shape).flatten(0, 1)
    masks = {name: SiteMask(table.flatten(0, 1).to(clean.dtype)) for name, table in on.items()}
    output = step.model.masked(x, masks).output.reshape(draws, *clean.shape)
    errors = (output - clean).square().mean(-1).float()
    weights = step.weights_of(clean)
    return errors.flatten() if weights is None else errors[:, weights > 0].flatten()
