"""What components do: plain functions from arrays to dataclasses of arrays, without trainer or drawing."""

from spd_lightning.analysis.agreement import SiteAgreement, agreement
from spd_lightning.analysis.attention_layers import AttentionLayer, attention_layers
from spd_lightning.analysis.attribution import attribution_graph, summed_graph
from spd_lightning.analysis.attribution_graph import AttributionGraph
from spd_lightning.analysis.call_tally import CallHarvest, HarvestOptions
from spd_lightning.analysis.circuit_files import read_circuits, save_circuits
from spd_lightning.analysis.circuit_goal import Goal
from spd_lightning.analysis.circuit_search import CircuitSearch
from spd_lightning.analysis.circuits import WITH, WITHOUT, Circuit, PromptCircuits, prompt_circuits
from spd_lightning.analysis.clustering import Clustering, cluster
from spd_lightning.analysis.edit_effect import EditReport, edit_report
from spd_lightning.analysis.edit_fitting import fitted_vectors
from spd_lightning.analysis.edit_outcomes import Outcome
from spd_lightning.analysis.edit_saving import save_edited
from spd_lightning.analysis.editing import Edit, edited
from spd_lightning.analysis.firings import Firings
from spd_lightning.analysis.fourier import NumberSide, NumberSpectra
from spd_lightning.analysis.graph_drawing import drawing
from spd_lightning.analysis.graph_files import read_graph, save_graph
from spd_lightning.analysis.graph_flow import GraphPath, beginnings, influence, pruned, share_kept, strongest_paths
from spd_lightning.analysis.harvest import harvest
from spd_lightning.analysis.harvest_files import read_harvest
from spd_lightning.analysis.harvest_tally import Harvest
from spd_lightning.analysis.heads import HeadFlow, attention_flow, components_of_head, head_logits, silent_head
from spd_lightning.analysis.intruders import Judge, TokenJudge
from spd_lightning.analysis.labelling import Labeller, StatisticsLabeller
from spd_lightning.analysis.mechanisms import read_mechanisms
from spd_lightning.analysis.query_key import QueryKey, pair_scores, query_key
from spd_lightning.analysis.site_fitting import FittedVectors
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading

__all__ = [
    "WITH",
    "WITHOUT",
    "AttentionLayer",
    "AttributionGraph",
    "CallHarvest",
    "Circuit",
    "CircuitSearch",
    "Clustering",
    "Edit",
    "EditReport",
    "Firings",
    "FittedVectors",
    "Goal",
    "GraphPath",
    "Harvest",
    "HarvestOptions",
    "HeadFlow",
    "Judge",
    "Labeller",
    "NumberSide",
    "NumberSpectra",
    "Outcome",
    "PromptCircuits",
    "QueryKey",
    "SiteAgreement",
    "StatisticsLabeller",
    "TokenCounts",
    "TokenJudge",
    "TokenReading",
    "agreement",
    "attention_flow",
    "attention_layers",
    "attribution_graph",
    "beginnings",
    "cluster",
    "components_of_head",
    "drawing",
    "edit_report",
    "edited",
    "fitted_vectors",
    "harvest",
    "head_logits",
    "influence",
    "pair_scores",
    "prompt_circuits",
    "pruned",
    "query_key",
    "read_circuits",
    "read_graph",
    "read_harvest",
    "read_mechanisms",
    "save_circuits",
    "save_edited",
    "save_graph",
    "share_kept",
    "silent_head",
    "strongest_paths",
    "summed_graph",
]
