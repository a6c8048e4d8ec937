"""Tables and sentences of the document."""

from collections.abc import Iterable, Sequence

from benchmarks.tables import table

NOTHING = "-"


def cell(text: str) -> str:
    """Text that cannot break a row of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|") or NOTHING


def filled_columns(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A table without the columns that hold nothing, closed by an empty line; nothing without rows.

    Args:
        header: names of the columns.
        lines: a cell per column; a dash where there is nothing.
    """
    if not lines:
        return []
    kept = [column for column in range(len(header)) if any(line[column] not in ("", NOTHING) for line in lines)]
    body = [[cell(line[column]) for column in kept] for line in lines]
    return [*table([header[column] for column in kept], body), ""]


def joined(parts: Iterable[str], separator: str = "; ") -> str:
    """Different texts, each once."""
    return separator.join(dict.fromkeys(part for part in parts if part))
