"""Rows of a harvest, written by hand."""

from typing import Any


def row(**given: Any) -> dict[str, Any]:
    """A component that is important at a quarter of the positions."""
    whole = {
        "call": "a",
        "component": 0,
        "firings": 25,
        "density": 0.25,
        "mean_importance": 0.2,
        "positive": 1.0,
        "rms_inner": 0.5,
        "histogram": [75, *[0] * 18, 25],
        "together": [],
        "places": [],
    }
    return whole | given


def text_place(texts: list[str], at: int, document: int = 0, tokens: list[int] | None = None) -> dict[str, Any]:
    """A window of text, the component important at its place alone."""
    importances = [0.0] * len(texts)
    importances[at] = 1.0
    return {
        "example": document,
        "document": document,
        "position": at,
        "inner": 1.5,
        "importance": 1.0,
        "at": at,
        "tokens": list(range(len(texts))) if tokens is None else tokens,
        "texts": texts,
        "importances": importances,
    }
