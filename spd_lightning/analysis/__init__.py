"""What components do: plain functions from arrays to dataclasses of arrays, without trainer or drawing."""

from spd_lightning.analysis.agreement import SiteAgreement, agreement
from spd_lightning.analysis.fourier import NumberSide, NumberSpectra
from spd_lightning.analysis.heads import HeadFlow, attention_flow, components_of_head
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading

__all__ = [
    "HeadFlow",
    "NumberSide",
    "NumberSpectra",
    "SiteAgreement",
    "TokenCounts",
    "TokenReading",
    "agreement",
    "attention_flow",
    "components_of_head",
]
