"""What components do: plain functions from arrays to dataclasses of arrays, without trainer or drawing."""

from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading

__all__ = ["TokenCounts", "TokenReading"]
