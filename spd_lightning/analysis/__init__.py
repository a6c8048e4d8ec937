"""What components do: plain functions from arrays to dataclasses of arrays, without trainer or drawing."""

from spd_lightning.analysis.agreement import SiteAgreement, agreement
from spd_lightning.analysis.edit_effect import EditReport, edit_report
from spd_lightning.analysis.edit_outcomes import Outcome
from spd_lightning.analysis.edit_saving import save_edited
from spd_lightning.analysis.editing import Edit, edited
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading

__all__ = [
    "Edit",
    "EditReport",
    "Outcome",
    "SiteAgreement",
    "TokenCounts",
    "TokenReading",
    "agreement",
    "edit_report",
    "edited",
    "save_edited",
]
