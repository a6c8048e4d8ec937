"""What components do: plain functions from arrays to dataclasses of arrays, without trainer or drawing."""

from spd_lightning.analysis.agreement import SiteAgreement, agreement
from spd_lightning.analysis.fourier import NumberSide, NumberSpectra
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading

__all__ = ["NumberSide", "NumberSpectra", "SiteAgreement", "TokenCounts", "TokenReading", "agreement"]
