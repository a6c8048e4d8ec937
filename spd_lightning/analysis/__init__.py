"""What components do: plain functions from arrays to dataclasses of arrays, without trainer or drawing."""

from spd_lightning.analysis.agreement import SiteAgreement, agreement
from spd_lightning.analysis.attention_layers import AttentionLayer, attention_layers
from spd_lightning.analysis.call_tally import CallHarvest, HarvestOptions
from spd_lightning.analysis.circuit_files import read_circuits, save_circuits
from spd_lightning.analysis.circuit_goal import Goal
from spd_lightning.analysis.circuit_search import CircuitSearch
from spd_lightning.analysis.circuits import WITH, WITHOUT, Circuit, PromptCircuits, prompt_circuits
from spd_lightning.analysis.clustering import Clustering, cluster
from spd_lightning.analysis.edit_effect import EditReport, edit_report
from spd_lightning.analysis.edit_outcomes import Outcome
from spd_lightning.analysis.edit_saving import save_edited
from spd_lightning.analysis.editing import Edit, edited
from spd_lightning.analysis.firings import Firings
from spd_lightning.analysis.fourier import NumberSide, NumberSpectra
from spd_lightning.analysis.harvest import Harvest, harvest
from spd_lightning.analysis.heads import HeadFlow, attention_flow, components_of_head
from spd_lightning.analysis.mechanisms import read_mechanisms
from spd_lightning.analysis.query_key import QueryKey, pair_scores, query_key
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading

__all__ = [
    "WITH",
    "WITHOUT",
    "AttentionLayer",
    "CallHarvest",
    "Circuit",
    "CircuitSearch",
    "Clustering",
    "Edit",
    "EditReport",
    "Firings",
    "Goal",
    "Harvest",
    "HarvestOptions",
    "HeadFlow",
    "NumberSide",
    "NumberSpectra",
    "Outcome",
    "PromptCircuits",
    "QueryKey",
    "SiteAgreement",
    "TokenCounts",
    "TokenReading",
    "agreement",
    "attention_flow",
    "attention_layers",
    "cluster",
    "components_of_head",
    "edit_report",
    "edited",
    "harvest",
    "pair_scores",
    "prompt_circuits",
    "query_key",
    "read_circuits",
    "read_mechanisms",
    "save_circuits",
    "save_edited",
]
