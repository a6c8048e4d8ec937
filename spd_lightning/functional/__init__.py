"""Tensors in, tensors out. Nothing here knows a module, a trainer, a rank or a config."""

from spd_lightning.functional.activity import ALIVE_THRESHOLD, active_counts, alive_components
from spd_lightning.functional.adversary import AdamRates, AscentMoments, adam_ascent, ascend
from spd_lightning.functional.attention import attention_pattern
from spd_lightning.functional.attribution import (
    SitePart,
    attributions,
    batch_topk,
    hidden_error,
    relative_attributions,
    simplicity,
)
from spd_lightning.functional.contributions import component_contributions, neuron_contributions, pearson, with_rank
from spd_lightning.functional.distances import distance, kl, mean_output, mse
from spd_lightning.functional.fourier import (
    answer_matrices,
    chance_plane_alignment,
    eigenspace_alignment,
    eigenvectors,
    fourier_basis,
    fourier_planes,
    frequency_power,
    plane_alignment,
    plane_invariance,
    plane_shares,
)
from spd_lightning.functional.frequency import (
    absences,
    company,
    component_shares,
    frequency_cost,
    frequency_minimality,
    frequency_weighted_importance,
    importance_covariance,
)
from spd_lightning.functional.initialisation import basis_start, examples_start, spread_directions
from spd_lightning.functional.intervals import wilson_interval
from spd_lightning.functional.losses import (
    average,
    contribution_sparsity,
    faithfulness,
    importance_minimality,
    mean_over_examples,
    rank_penalty,
    relative_faithfulness,
    written_length,
)
from spd_lightning.functional.masks import jittered_importance, mask_from_source, random_source
from spd_lightning.functional.modular import is_odd_prime, number_pairs, split_rows
from spd_lightning.functional.partitions import adjusted_rand_index
from spd_lightning.functional.precision import full_precision, single
from spd_lightning.functional.recovery import (
    UNMATCHED,
    MatchedTerms,
    chance_mmcs,
    dense_contradictions,
    identity_contradictions,
    identity_order,
    l2_ratio,
    match_terms,
    max_cosine_similarity,
    pattern_order,
    term_contradictions,
)
from spd_lightning.functional.routing import independent_subset, uniform_subset
from spd_lightning.functional.sampling import (
    RowShare,
    WeightedBatch,
    merged_rows,
    merged_sparse_features,
    own_rows,
    sparse_features,
)
from spd_lightning.functional.schedules import along_points, geometric_anneal, linear_anneal, lr_factor
from spd_lightning.functional.seeds import keyed_generator, keyed_seed
from spd_lightning.functional.sequences import induction_sequences, name_sequences
from spd_lightning.functional.sigmoids import lower_leaky, upper_leaky
from spd_lightning.functional.smooth import smooth_importance, smooth_l0

__all__ = [
    "ALIVE_THRESHOLD",
    "UNMATCHED",
    "AdamRates",
    "AscentMoments",
    "MatchedTerms",
    "RowShare",
    "SitePart",
    "WeightedBatch",
    "absences",
    "active_counts",
    "adam_ascent",
    "adjusted_rand_index",
    "alive_components",
    "along_points",
    "answer_matrices",
    "ascend",
    "attention_pattern",
    "attributions",
    "average",
    "basis_start",
    "batch_topk",
    "chance_mmcs",
    "chance_plane_alignment",
    "company",
    "component_contributions",
    "component_shares",
    "contribution_sparsity",
    "dense_contradictions",
    "distance",
    "eigenspace_alignment",
    "eigenvectors",
    "examples_start",
    "faithfulness",
    "fourier_basis",
    "fourier_planes",
    "frequency_cost",
    "frequency_minimality",
    "frequency_power",
    "frequency_weighted_importance",
    "full_precision",
    "geometric_anneal",
    "hidden_error",
    "identity_contradictions",
    "identity_order",
    "importance_covariance",
    "importance_minimality",
    "independent_subset",
    "induction_sequences",
    "is_odd_prime",
    "jittered_importance",
    "keyed_generator",
    "keyed_seed",
    "kl",
    "l2_ratio",
    "linear_anneal",
    "lower_leaky",
    "lr_factor",
    "mask_from_source",
    "match_terms",
    "max_cosine_similarity",
    "mean_output",
    "mean_over_examples",
    "merged_rows",
    "merged_sparse_features",
    "mse",
    "name_sequences",
    "neuron_contributions",
    "number_pairs",
    "own_rows",
    "pattern_order",
    "pearson",
    "plane_alignment",
    "plane_invariance",
    "plane_shares",
    "random_source",
    "rank_penalty",
    "relative_attributions",
    "relative_faithfulness",
    "simplicity",
    "single",
    "smooth_importance",
    "smooth_l0",
    "sparse_features",
    "split_rows",
    "spread_directions",
    "term_contradictions",
    "uniform_subset",
    "upper_leaky",
    "wilson_interval",
    "with_rank",
    "written_length",
]
