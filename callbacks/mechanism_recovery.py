"""Agreement with the mechanisms that a toy target is known to have."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from torch import Tensor

from spd_lightning.callbacks.evaluation import EvaluationCallback, check_probes, log_scores, probe_importances
from spd_lightning.errors import UsageError, check_list, check_whole
from spd_lightning.functional import (
    ALIVE_THRESHOLD,
    alive_components,
    chance_mmcs,
    dense_contradictions,
    identity_contradictions,
    keyed_generator,
    l2_ratio,
    match_terms,
    max_cosine_similarity,
    term_contradictions,
)
from spd_lightning.losses import check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.model import Components
from spd_lightning.targets import KnownMechanisms, Mechanisms, Terms

FOUND_COSINE = 0.99
"""A known term is found if the component matched to it has at least this cosine with it."""


class MechanismRecovery(EvaluationCallback):
    """Scores every site whose mechanisms the target states (SPD paper, Table 1; later library's target patterns).

    Per site: MMCS and ML2R over the features that the target really represents, the MMCS that random components
    would reach, and the number of importances on one-hot probes that contradict the expected pattern, identity or
    dense. ML2R takes the component that points best along a column, even a dead one that wins by a hair;
    ``ml2r_alive`` (ours) lets only components compete that are active on some probe, and is logged beside it.

    Where the target lists the terms of a site, components are matched to them one to one (ours): ``terms_found``, how
    many have a cosine of 0.99 at least; ``matched_cosine``, its mean, and its smallest; ``matched_length``, the mean
    ratio of lengths; and the importances, over all probes and positions, that contradict where terms are needed.

    Args:
        probe: magnitude of the one-hot probes.
        tolerances: slacks at which contradictions are counted.
        chance_draws: random decompositions behind the chance level.
        alive_threshold: importance on some probe above which a component counts for ``ml2r_alive``.
    """

    def __init__(
        self,
        probe: float = 0.75,
        tolerances: Sequence[float] = (0.1, 0.2),
        chance_draws: int = 200,
        alive_threshold: float = ALIVE_THRESHOLD,
    ) -> None:
        super().__init__()
        check_whole("chance_draws", chance_draws, least=1)
        check_positive("probe", probe)
        check_positive("alive_threshold", alive_threshold, allow_zero=True)
        check_list("tolerances", tolerances)
        for tolerance in tolerances:
            check_positive("tolerances: each", tolerance, allow_zero=True)
        self.probe, self.tolerances, self.chance_draws = probe, list(tolerances), chance_draws
        self.alive_threshold = alive_threshold
        self._chance: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there is something to compare with."""
        if stage == "predict":
            return
        check_probes(self, trainer, pl_module)
        if not isinstance(pl_module.target, KnownMechanisms):
            raise UsageError(
                f"MechanismRecovery: nothing is known about a {type(pl_module.target).__name__}; give it "
                "known_mechanisms(), or remove MechanismRecovery from trainer.callbacks"
            )

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Log the scores of every site with known mechanisms."""
        target = module.target
        assert isinstance(target, KnownMechanisms)
        tables = probe_importances(trainer, module, self.probe)
        for name, known in target.known_mechanisms().items():
            if name in tables:
                parts = module.model.components[name]
                if known.terms is None:
                    scores = self._pattern_scores(tables[name], known)
                    scores |= self._vector_scores(name, parts, known, tables[name])
                else:
                    scores = self._term_scores(tables[name], parts, known.terms)
                log_scores(module, f"{stage}/recovery/{name}", {"mechanisms": known.count} | scores)

    def _pattern_scores(self, table: Tensor, known: Mechanisms) -> dict[str, float]:
        rows = table[known.features]
        scores: dict[str, float] = {}
        for tolerance in self.tolerances:
            if known.kind == "identity":
                scores[f"identity_contradictions_{tolerance}"] = identity_contradictions(rows, tolerance)
            else:
                scores[f"dense_contradictions_{tolerance}"] = dense_contradictions(rows, known.count, tolerance)
        return scores

    def _term_scores(self, table: Tensor, parts: Components, terms: Terms) -> dict[str, float]:
        device = parts.V.device
        found = match_terms(parts.V.detach(), parts.U.detach(), terms.read.to(device), terms.write.to(device))
        needed = terms.needed.flatten(0, -2)
        scores = {
            f"term_contradictions_{tolerance}": term_contradictions(table, needed, found.component, tolerance)
            for tolerance in self.tolerances
        }
        return scores | {
            "terms_found": float((found.cosine >= FOUND_COSINE).sum()),
            "matched_cosine": found.cosine.mean().item(),
            "matched_cosine_min": found.cosine.min().item(),
            "matched_length": found.length.mean().item(),
        }

    def _vector_scores(self, name: str, parts: Components, known: Mechanisms, table: Tensor) -> dict[str, float]:
        if known.axis is None:
            return {}
        read, write, weight = columns_of_features(parts, known)
        alive = alive_components(table, self.alive_threshold).to(weight.device)
        return {
            "ml2r_alive": l2_ratio(read[:, alive], write[alive], weight).mean().item() if alive.any() else 0.0,
            "mmcs": max_cosine_similarity(read, write, weight).mean().item(),
            "ml2r": l2_ratio(read, write, weight).mean().item(),
            "chance_mmcs": self._chance_level(name, weight, parts.n_components),
        }

    def _chance_level(self, name: str, weight: Tensor, n_components: int) -> float:
        if name not in self._chance:
            generator = keyed_generator("chance", name)
            d_out, n_columns = weight.shape
            self._chance[name] = chance_mmcs(d_out, n_columns, n_components, self.chance_draws, generator)
        return self._chance[name]


def columns_of_features(parts: Components, known: Mechanisms) -> tuple[Tensor, Tensor, Tensor]:
    """A site's V, U and W oriented and cut so that W's columns are the represented features.

    Args:
        parts: the site's components.
        known: its mechanisms; ``axis`` says whether features are inputs or outputs of the layer.

    Returns:
        ``V [n, C]`` or ``[n, C, m]``, ``U [C, d]`` or ``[C, m, d]``, and ``W [d, n]``, with ``n`` represented features.
    """
    read, write, weight = parts.V.detach(), parts.U.detach(), parts.site.weight()
    if known.axis == "output":
        weight = weight.T
        full = read.dim() == 3
        read, write = (write.permute(2, 0, 1), read.permute(1, 2, 0)) if full else (write.T, read.T)
    return read[known.features], write, weight[:, known.features]
