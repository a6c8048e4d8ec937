"""What a misspelt word of a command or a config may have meant."""

from collections.abc import Collection, Iterable
from difflib import SequenceMatcher, get_close_matches

MOST = 3
"""Suggestions for one word."""
MARGIN = 0.1
"""How much less alike than the nearest name another one may be."""
FEW = 12
"""Names that are listed when none of them is near."""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Known names that are near to a word, the nearest first.

    Dotted names are compared part by part: the first part that no known name goes on with is taken for the misspelt
    one. If none has a similar part there, those count that end in the word's last part, wherever they stand.

    Args:
        word: as given, for example ``model.optimisation.lr``.
        known: the names that there are, in the same form.

    Returns:
        At most three of them.
    """
    names = {tuple(name.split(".")) for name in known}
    parts = tuple(word.split("."))
    place = _first_unknown(parts, names)
    found = [_joined(parts, place, part, names) for part in _close(parts[place], _after(parts[:place], names))]
    found = found or [".".join(name) for name in sorted(names) if name[-1] == parts[-1]]
    return list(dict.fromkeys(found))[:MOST]


def suggestion(word: str, known: Collection[str], sign: str = "") -> str:
    """The end of a message about an unknown word: what it may have meant or, where that is unclear, what there is.

    Args:
        word: as given.
        known: the names that there are.
        sign: what names are shown with, such as ``--``.
    """
    found = nearest(word, known)
    if found:
        return f"; did you mean {' or '.join(sign + name for name in found)}?"
    names, parts = {tuple(name.split(".")) for name in known}, tuple(word.split("."))
    start = parts[: _first_unknown(parts, names)]
    there = sorted(_after(start, names))
    listed = f"; {'.'.join(start)} takes " if start else "; there are "
    return listed + ", ".join(there) if 0 < len(there) <= FEW else ""


def _first_unknown(parts: tuple[str, ...], names: set[tuple[str, ...]]) -> int:
    known = [place for place in range(len(parts)) if parts[place] not in _after(parts[:place], names)]
    return known[0] if known else len(parts) - 1


def _after(start: tuple[str, ...], names: set[tuple[str, ...]]) -> set[str]:
    """The parts that names go on with after a common start."""
    length = len(start)
    return {name[length] for name in names if name[:length] == start and len(name) > length}


def _close(part: str, known: set[str]) -> list[str]:
    """Longer words that begin with this one, then similar ones, all about as near as the nearest."""
    longer = sorted(name for name in known if len(part) > 1 and name.startswith(part))
    lower = {name.lower(): name for name in sorted(known)}
    close = get_close_matches(part.lower(), lower, n=MOST)
    likeness = [SequenceMatcher(None, name, part.lower()).ratio() for name in close]
    similar = [lower[name] for name, like in zip(close, likeness, strict=True) if like > likeness[0] - MARGIN]
    return [*longer, *similar]


def _joined(parts: tuple[str, ...], place: int, part: str, names: set[tuple[str, ...]]) -> str:
    """A word with one part put right, as far as it then is a name."""
    whole = (*parts[:place], part, *parts[place + 1 :])
    return ".".join(whole if whole in names else whole[: place + 1])
