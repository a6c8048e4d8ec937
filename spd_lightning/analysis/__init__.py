"""What components do: plain functions from arrays to dataclasses of arrays, without trainer or drawing."""

from spd_lightning.analysis.agreement import SiteAgreement, agreement
from spd_lightning.analysis.call_tally import CallHarvest, HarvestOptions
from spd_lightning.analysis.clustering import Clustering, cluster
from spd_lightning.analysis.edit_effect import EditReport, edit_report
from spd_lightning.analysis.edit_outcomes import Outcome
from spd_lightning.analysis.edit_saving import save_edited
from spd_lightning.analysis.editing import Edit, edited
from spd_lightning.analysis.firings import Firings
from spd_lightning.analysis.fourier import NumberSide, NumberSpectra
from spd_lightning.analysis.harvest import Harvest, harvest
from spd_lightning.analysis.harvest_files import read_harvest
from spd_lightning.analysis.heads import HeadFlow, attention_flow, components_of_head
from spd_lightning.analysis.intruders import Judge, TokenJudge
from spd_lightning.analysis.labelling import Labeller, StatisticsLabeller
from spd_lightning.analysis.mechanisms import read_mechanisms
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading

__all__ = [
    "CallHarvest",
    "Clustering",
    "Edit",
    "EditReport",
    "Firings",
    "Harvest",
    "HarvestOptions",
    "HeadFlow",
    "Judge",
    "Labeller",
    "NumberSide",
    "NumberSpectra",
    "Outcome",
    "SiteAgreement",
    "StatisticsLabeller",
    "TokenCounts",
    "TokenJudge",
    "TokenReading",
    "agreement",
    "attention_flow",
    "cluster",
    "components_of_head",
    "edit_report",
    "edited",
    "harvest",
    "read_harvest",
    "read_mechanisms",
    "save_edited",
]
