"""Analyses that run while a decomposition is trained and tested: one question, one file.

Put a file of your own anywhere on the Python path and name its class by ``class_path`` in a config.
"""

from spd_lightning.callbacks.ablation_check import AblationCheck
from spd_lightning.callbacks.artefact import ExportDecomposition
from spd_lightning.callbacks.attention_heads import AttentionHeads
from spd_lightning.callbacks.checkpoints import Checkpoints
from spd_lightning.callbacks.component_activity import ComponentActivity
from spd_lightning.callbacks.component_images import ComponentImages
from spd_lightning.callbacks.component_vectors import ComponentVectors
from spd_lightning.callbacks.dashboard import TensorBoardLayout
from spd_lightning.callbacks.evaluation import EvaluationCallback
from spd_lightning.callbacks.final_report import FinalReport
from spd_lightning.callbacks.fourier_alignment import FourierAlignment
from spd_lightning.callbacks.html_report import HtmlReport
from spd_lightning.callbacks.importance_distribution import ImportanceDistribution
from spd_lightning.callbacks.importance_heatmaps import ImportanceHeatmaps
from spd_lightning.callbacks.importance_tables import ImportanceTables
from spd_lightning.callbacks.interrupt_guard import InterruptGuard
from spd_lightning.callbacks.mechanism_recovery import MechanismRecovery
from spd_lightning.callbacks.network_diagram import NetworkDiagram
from spd_lightning.callbacks.neuron_contributions import NeuronContributions
from spd_lightning.callbacks.predictions import PredictionWriter
from spd_lightning.callbacks.progress_bar import DecompositionProgressBar
from spd_lightning.callbacks.scrubbing import ScrubbingTest
from spd_lightning.callbacks.sparsity_curve import SparsityCurve
from spd_lightning.callbacks.swept_values import SweptValues
from spd_lightning.callbacks.task_performance import TaskPerformance
from spd_lightning.callbacks.text_samples import TextSamples
from spd_lightning.callbacks.token_readings import TokenReadings
from spd_lightning.callbacks.training_health import TrainingHealth
from spd_lightning.callbacks.training_log import TrainingLog
from spd_lightning.callbacks.whole_files import WholeFiles

__all__ = [
    "AblationCheck",
    "AttentionHeads",
    "Checkpoints",
    "ComponentActivity",
    "ComponentImages",
    "ComponentVectors",
    "DecompositionProgressBar",
    "EvaluationCallback",
    "ExportDecomposition",
    "FinalReport",
    "FourierAlignment",
    "HtmlReport",
    "ImportanceDistribution",
    "ImportanceHeatmaps",
    "ImportanceTables",
    "InterruptGuard",
    "MechanismRecovery",
    "NetworkDiagram",
    "NeuronContributions",
    "PredictionWriter",
    "ScrubbingTest",
    "SparsityCurve",
    "SweptValues",
    "TaskPerformance",
    "TensorBoardLayout",
    "TextSamples",
    "TokenReadings",
    "TrainingHealth",
    "TrainingLog",
    "WholeFiles",
]
