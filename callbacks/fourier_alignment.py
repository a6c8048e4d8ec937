"""Are the components of a network that adds modulo a prime its Fourier frequencies?"""

import json
import sys
from typing import Any

import torch
from lightning.pytorch import Trainer

from spd_lightning.analysis import NumberSide, NumberSpectra
from spd_lightning.callbacks.evaluation import EvaluationCallback, count_alive, log_scores
from spd_lightning.callbacks.publishing import publish_figure, run_folder
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.figures import fourier_spectra
from spd_lightning.files.whole import written_whole
from spd_lightning.functional import ALIVE_THRESHOLD, eigenspace_alignment, fourier_planes, plane_invariance
from spd_lightning.losses import Step, check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.metrics import AliveComponents
from spd_lightning.targets import FourierMechanisms

COMPONENTS, NEURONS = "components", "neurons of the target"
Found = dict[str, NumberSpectra]


class FourierAlignment(EvaluationCallback):
    """Holds alive components against the Fourier planes that the target computes with, beside chance and its neurons.

    A site's vectors are functions of the numbers at one side: what is read of them, through an embedding where there is
    one, or what is written to the answers. Logged per site, means over components that are important on some example:

    - ``fourier/SITE/alignment``: share of the squared length in the best frequency's plane (ours; both numbers' planes
      together where two are read), ``alignment_chance`` of random directions, ``alignment_neurons`` of the target's.
    - ``fourier/SITE/single``: share at one number. 1 says that components are rows and columns of the addition table;
      ``single_chance`` and ``single_neurons`` beside it.

    Of a bilinear target ``fourier/answers/invariance`` says how far its answer matrices keep every plane to itself, so
    that planes are sums of eigenspaces, and ``fourier/answers/eigenvectors`` how far single eigenvectors lie in one.
    Scores are printed after a test. Spectra go to ``analysis/fourier_alignment.json`` and are drawn.

    Args:
        threshold: importance above which a component counts as alive.
        draws: random directions behind chance levels.
        every_n_validations: how often this runs while training.

    Raises:
        UsageError: for a value outside its range, or a target that does not state where it reads and writes numbers.
    """

    def __init__(self, threshold: float = ALIVE_THRESHOLD, draws: int = 2000, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        self.threshold = check_positive("threshold", threshold, allow_zero=True)
        check_whole("FourierAlignment: draws", draws, least=1)
        self.draws = draws
        self._chance: dict[str, tuple[float, float]] = {}
        self._printed = ""

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there are frequencies to compare with."""
        if stage != "predict" and not isinstance(pl_module.target, FourierMechanisms):
            raise UsageError(
                f"FourierAlignment: a {type(pl_module.target).__name__} states no numbers that it computes with; give "
                "it modulus, fourier_sites() and answer_matrices(), or remove FourierAlignment from trainer.callbacks"
            )

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Nothing is alive yet."""
        self._alive: dict[str, AliveComponents] = {}
        self._printed = ""

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """See which components one batch needs."""
        count_alive(self._alive, step, self.threshold)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Log the scores; write and draw the spectra on rank zero."""
        target = module.target
        assert isinstance(target, FourierMechanisms)
        sides = {
            name: NumberSide(known.side, known.numbers, target.modulus)
            for name, known in target.fourier_sites().items()
            if name in self._alive
        }
        alive = {name: self._alive[name].mask() for name in sides}
        found, scores = {}, {}
        for name, side in sides.items():
            found[name] = _spectra(module, name, side)
            scores[name] = self._scores(module, name, side, found[name], alive[name])
            log_scores(module, f"{stage}/fourier/{name}", scores[name])
        answers = _answers(target)
        log_scores(module, f"{stage}/fourier/answers", answers)
        if trainer.is_global_zero and found:
            living = {name: torch.nonzero(kept).flatten().tolist() for name, kept in alive.items()}
            self._printed = _said(living, scores, answers)
            self._keep(trainer, target, found, living, scores | {"answers": answers})
            publish_figure(trainer, f"{stage}/fourier_spectra", _figure(found, living, scores))

    def on_test_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Print the scores, after those of the method."""
        if self._printed:
            sys.stdout.write(f"\n{self._printed}\n")

    def _scores(
        self, module: Decomposition, name: str, side: NumberSide, found: Found, alive: torch.Tensor
    ) -> dict[str, float]:
        if name not in self._chance:
            self._chance[name] = side.chance(module.model.components[name].rank or 1, self.draws)
        components, neurons = found[COMPONENTS], found[NEURONS]
        alive = alive.to(components.single.device)
        return {
            "alignment": components.alignment[alive].mean().item(),
            "alignment_chance": self._chance[name][0],
            "alignment_neurons": neurons.alignment.mean().item(),
            "single": components.single[alive].mean().item(),
            "single_chance": self._chance[name][1],
            "single_neurons": neurons.single.mean().item(),
        }

    def _keep(
        self,
        trainer: Trainer,
        target: FourierMechanisms,
        found: dict[str, Found],
        living: dict[str, list[int]],
        scores: dict[str, dict[str, float]],
    ) -> None:
        folder = run_folder(trainer)
        if folder is None:
            return
        sites = {
            name: {"alive": living[name]} | {kind: _plain(one) for kind, one in kinds.items()}
            for name, kinds in found.items()
        }
        document = {"modulus": target.modulus, "threshold": self.threshold, "scores": scores, "sites": sites}
        with written_whole(folder / "analysis" / "fourier_alignment.json") as aside:
            aside.write_text(json.dumps(document) + "\n")


def _spectra(module: Decomposition, name: str, side: NumberSide) -> Found:
    parts = module.model.components[name]
    directions = {
        COMPONENTS: side.of_components(parts.V.detach(), parts.U.detach()),
        NEURONS: side.of_neurons(parts.site.weight().detach()),
    }
    return {kind: side.spectra(some) for kind, some in directions.items()}


def _answers(target: FourierMechanisms) -> dict[str, float]:
    matrices = target.answer_matrices()
    if matrices is None:
        return {}
    planes = fourier_planes(target.modulus, matrices.shape[-1] // target.modulus).to(matrices.device)
    return {
        "invariance": plane_invariance(matrices, planes),
        "eigenvectors": eigenspace_alignment(matrices, planes),
    }


def _said(living: dict[str, list[int]], scores: dict[str, dict[str, float]], answers: dict[str, float]) -> str:
    columns = ("alignment", "alignment_chance", "alignment_neurons", "single", "single_chance", "single_neurons")
    width = max(map(len, ["site", *scores]))
    lines = [
        f"{'share of the length in':{width}}            one frequency           one number",
        f"{'site':{width}}  alive    components  chance  neurons  components  chance  neurons",
    ]
    for name, some in scores.items():
        shares = "".join(
            f"{some[column]:{size}.2f}" for column, size in zip(columns, (14, 8, 9, 12, 8, 9), strict=True)
        )
        lines.append(f"{name:{width}}  {len(living[name]):5}{shares}")
    if answers:
        lines.append(
            "answer matrices: {invariance:.2f} within planes, eigenvectors {eigenvectors:.2f}".format(**answers)
        )
    return "\n".join(lines)


def _plain(spectra: NumberSpectra) -> dict[str, Any]:
    rounded = [[round(share, 4) for share in row] for row in spectra.shares.tolist()]
    return {"shares": rounded, "single": [round(share, 4) for share in spectra.single.tolist()]}


def _figure(found: dict[str, Found], living: dict[str, list[int]], scores: dict[str, dict[str, float]]) -> Any:
    """Components over neurons, a column per site."""
    spectra, shown, notes = {}, {}, {}
    for kind, suffix in ((COMPONENTS, ""), (NEURONS, "_neurons")):
        for name, kinds in found.items():
            title, one = f"{name}: {kind}", kinds[kind]
            rows = living[name] if kind == COMPONENTS else list(range(len(one.single)))
            spectra[title], shown[title] = one.shares, _by_frequency(one, rows)
            aligned, chance = scores[name][f"alignment{suffix}"], scores[name]["alignment_chance"]
            notes[title] = f"{len(rows)} of {len(one.single)}: {aligned:.2f} in the best plane, chance {chance:.2f}"
    return fourier_spectra(spectra, shown, notes, columns=len(found))


def _by_frequency(spectra: NumberSpectra, rows: list[int]) -> list[int]:
    """Rows by the frequency of their best plane, those that lie in it most first."""
    frequency, alignment = spectra.frequency.tolist(), spectra.alignment.tolist()
    return sorted(rows, key=lambda row: (frequency[row], -alignment[row]))
