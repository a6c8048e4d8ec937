"""What components do: plain functions from arrays to dataclasses of arrays, without trainer or drawing."""

from spd_lightning.analysis.agreement import SiteAgreement, agreement
from spd_lightning.analysis.fourier import NumberSide, NumberSpectra
from spd_lightning.analysis.heads import HeadFlow, attention_flow, components_of_head
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading

__all__ = [
    "Edit",
    "EditReport",
    "HeadFlow",
    "NumberSide",
    "NumberSpectra",
    "Outcome",
    "SiteAgreement",
    "TokenCounts",
    "TokenReading",
    "agreement",
    "attention_flow",
    "components_of_head",
    "edit_report",
    "edited",
    "save_edited",
]
