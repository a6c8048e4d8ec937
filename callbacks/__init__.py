"""Analyses that look on while a decomposition is trained and tested: one question, one file.

Put a file of your own anywhere on the Python path and name its class by ``class_path`` in a config.
"""

from callbacks.ablation_check import AblationCheck
from callbacks.artefact import ExportDecomposition
from callbacks.checkpoints import Checkpoints
from callbacks.component_activity import ComponentActivity
from callbacks.component_vectors import ComponentVectors
from callbacks.dashboard import TensorBoardLayout
from callbacks.evaluation import EvaluationCallback
from callbacks.final_report import FinalReport
from callbacks.html_report import HtmlReport
from callbacks.importance_distribution import ImportanceDistribution
from callbacks.importance_heatmaps import ImportanceHeatmaps
from callbacks.interrupt_guard import InterruptGuard
from callbacks.mechanism_recovery import MechanismRecovery
from callbacks.network_diagram import NetworkDiagram
from callbacks.neuron_contributions import NeuronContributions
from callbacks.predictions import PredictionWriter
from callbacks.progress_bar import DecompositionProgressBar
from callbacks.scrubbing import ScrubbingTest
from callbacks.swept_values import SweptValues
from callbacks.training_health import TrainingHealth
from callbacks.training_log import TrainingLog
from callbacks.whole_files import WholeFiles

__all__ = [
    "AblationCheck",
    "Checkpoints",
    "ComponentActivity",
    "ComponentVectors",
    "DecompositionProgressBar",
    "EvaluationCallback",
    "ExportDecomposition",
    "FinalReport",
    "HtmlReport",
    "ImportanceDistribution",
    "ImportanceHeatmaps",
    "InterruptGuard",
    "MechanismRecovery",
    "NetworkDiagram",
    "NeuronContributions",
    "PredictionWriter",
    "ScrubbingTest",
    "SweptValues",
    "TensorBoardLayout",
    "TrainingHealth",
    "TrainingLog",
    "WholeFiles",
]
