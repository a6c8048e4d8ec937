"""Short names for components, from what a harvest says of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

MOST_WORDS, MOST_CHARACTERS = 8, 100
"""Of a label."""
LIKELY = 0.5
"""Share of a component's firings on a token, or of its strongest entry, from which on something is named."""
KINDS = {"input", "pixel", "output", "token"}
"""What names of inputs and outputs begin with, where these are no text."""
Row = Mapping[str, Any]
"""What the harvest says of a component, see :data:`spd_lightning.runs.analysis_files.ROW_SHAPE`."""


class Labeller(Protocol):
    """Gives components names.

    Attributes:
        name: what it is, kept with its labels.
    """

    name: str

    def label(self, row: Row) -> str:
        """A label of at most 8 words, not empty.

        Raises:
            UsageError: if there is none to be had.
        """
        ...


class StatisticsLabeller:
    """Names what the numbers of a harvest say: no model reads the windows (ours).

    A component of text is named by the tokens that it is important on, or comes before, whichever names it better (by
    F1). One at an end of the network is named by the inputs that it reads and the outputs that it writes: those with at
    least half of the largest weight, with a minus if they have the opposite sign. Where there is neither, the label
    says how often it is important.
    """

    name = "statistics of the harvest"

    def label(self, row: Row) -> str:
        """See :class:`StatisticsLabeller`."""
        parts = [part for part in (_of_tokens(row), _of_end(row, "reads"), _of_end(row, "writes")) if part]
        if not parts:
            parts = [f"important at {float(row['density']):.2%} of positions"]
        return shortened(", ".join(parts))


def shortened(text: str) -> str:
    """One line of at most 8 words and 100 characters that a terminal shows as they are."""
    shown = "".join(letter for letter in text if letter.isprintable() or letter.isspace())
    line = " ".join(shown.split()[:MOST_WORDS])
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"


def _of_tokens(row: Row) -> str:
    sides = [(side, row.get(side) or []) for side in ("on", "before")]
    best = max(sides, key=lambda found: _f1(found[1][0]) if found[1] else -1.0)
    if not best[1]:
        return ""
    first, *others = best[1]
    named = [first, *(token for token in others if _f1(token) >= LIKELY * _f1(first))][:3]
    return f"{best[0]} {'/'.join(map(_token, named))}"


def _f1(token: Mapping[str, Any]) -> float:
    precision, recall = float(token.get("precision", 0)), float(token.get("recall", 0))
    return 2 * precision * recall / max(precision + recall, 1e-9)


def _token(token: Mapping[str, Any]) -> str:
    """A token in quotes, its spaces as what they are, so that it stays one word."""
    if "text" not in token:
        return f"token:{token.get('token')}"
    return _quoted(str(token["text"]))


def _quoted(text: str) -> str:
    return "'" + "".join("␣" if letter.isspace() else letter for letter in text[:30]) + "'"


def _of_end(row: Row, side: str) -> str:
    entries = row.get(side) or []
    if not entries:
        return ""
    first = max((float(entry["weight"]) for entry in entries), key=abs)
    named = [entry for entry in entries if first and abs(float(entry["weight"])) >= LIKELY * abs(first)]
    if not named:
        return ""
    more = f"+{len(named) - 3}" if len(named) > 3 else ""
    kind, _, rest = str(named[0]["name"]).partition(" ")
    if not (kind in KINDS and rest):
        return f"{side} {'/'.join(_signed(_quoted(str(e['name'])), e, first) for e in named[:3])}{more}"
    return f"{side} {kind} {','.join(_signed(str(e['name'])[len(kind) + 1 :], e, first) for e in named[:3])}{more}"


def _signed(name: str, entry: Mapping[str, Any], first: float) -> str:
    """With a minus where the entry has the opposite sign of the largest."""
    return name if float(entry["weight"]) * first > 0 else f"\N{MINUS SIGN}{name}"


def window_of(place: Mapping[str, Any], reach: int = 10) -> str:
    """A window as text, the place itself between double brackets; empty where the harvest has no text."""
    texts, at = place.get("texts") or [], int(place.get("at", 0))
    if not 0 <= at < len(texts):
        return ""
    left, right = texts[max(at - reach, 0) : at], texts[at + 1 : at + 1 + reach]
    return "".join([*left, "[[", texts[at], "]]", *right])


def described(row: Row, windows: int = 8) -> str:
    """What a reader is told of a component before naming it: numbers, tokens, ends and windows, as text.

    Args:
        row: the component.
        windows: how many of its strongest windows at most.
    """
    lines = [f"The component is active at {float(row['density']):.2%} of positions."]
    for side in ("on", "before"):
        if row.get(side):
            shares = (f"{_token(token)} ({float(token.get('precision', 0)):.0%})" for token in row[side])
            lines.append(f"Share of its activity that is {side} a token: {', '.join(shares)}.")
    for side in ("reads", "writes"):
        if row.get(side):
            entries = (f"{entry['name']!r} ({float(entry['weight']):.2f})" for entry in row[side])
            lines.append(f"It {side} most strongly: {', '.join(entries)}.")
    shown = [window for window in map(window_of, row["places"][:windows]) if window]
    if shown:
        lines.append("Where it is most active; the place itself is in double brackets:")
        lines += [f"{number}. {window!r}" for number, window in enumerate(shown, 1)]
    return "\n".join(lines)


def repeated(labels: Iterable[str]) -> int:
    """How many labels are also another component's, and so tell it from nothing."""
    return sum(count for count in Counter(labels).values() if count > 1)
