"""From patterns of module paths to the sites they name."""

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import nn

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.model.sites.convolution import ConvolutionSite
from spd_lightning.model.sites.embedding import EmbeddingSite
from spd_lightning.model.sites.linear import LinearSite
from spd_lightning.model.sites.site import Site
from spd_lightning.model.sites.transposed import TransposedSite

KINDS: tuple[type[Site], ...] = (LinearSite, TransposedSite, EmbeddingSite, ConvolutionSite)
"""Kinds that come with the package, in the order in which they are tried."""
PARTS = {"q": (0, 3), "k": (1, 3), "v": (2, 3), "gate": (0, 2), "up": (1, 2)}
"""Parts of fused matrices by name: which of how many equal runs of rows."""
LISTED = 5
"""Modules that are named where none is near what was asked for."""
_WITH_PART = re.compile(r"(?P<path>.+)\[(?P<part>[a-z]\w*|[\d\s:,]*:[\d\s:,]*)\]")


class Wanted(NamedTuple):
    """A site that a pattern asks for: the module's path, the part of it, and ``C``."""

    path: str
    part: str | None
    n_components: int


def find_sites(
    target: nn.Module, patterns: Mapping[str, int], kinds: Sequence[type[Site]] = ()
) -> dict[str, tuple[Site, int]]:
    """Resolve patterns to sites.

    Args:
        target: the network.
        patterns: ``fnmatch`` patterns of module paths (``"layers.*.mlp_in"``), with the part where a module fuses
            several matrices (``"*.c_attn[q]"``, ``"*.in_proj[0:64]"``), to components per site ``C``.
        kinds: kinds of sites that are tried before :data:`KINDS`.

    Returns:
        Site name to site and ``C``, in the order of the target's modules.

    Raises:
        UsageError: if there is no pattern, one matches nothing, two match the same rows, no kind suits a match, a part
            does not exist, or ``C`` is below 1.
    """
    if not isinstance(patterns, Mapping):
        raise UsageError(f"sites must map patterns to numbers of components, got {patterns!r}")
    if not patterns:
        raise UsageError("sites: at least one pattern is needed, for example {'linear*': 20}")
    modules = {name: module for name, module in target.named_modules() if name}
    wanted = sorted(_wanted(patterns, modules), key=lambda one: list(modules).index(one.path))
    found: dict[str, tuple[Site, int]] = {}
    for path, part, count in wanted:
        name = path if part is None else f"{path}[{part}]"
        site = _site(name, modules[path], part, (*kinds, *KINDS))
        _check_apart(name, site, found)
        found[name] = (site, count)
    return found


def _wanted(patterns: Mapping[str, int], modules: Mapping[str, nn.Module]) -> Iterator[Wanted]:
    for pattern, count in patterns.items():
        check_whole(f"sites: C of {pattern!r}", count)
        if count < 1:
            raise UsageError(f"sites: C must be at least 1, got {count} for {pattern!r}")
        split = _WITH_PART.fullmatch(pattern)
        path, part = (pattern, None) if split is None else (split["path"], split["part"])
        if split is not None and part not in PARTS and ":" not in split["part"] and fnmatch.filter(modules, pattern):
            path, part = pattern, None  # a character class of fnmatch, not a part
        yield from (Wanted(name, part, count) for name in _matches(path, list(modules)))


def _listed(names: list[str]) -> str:
    """The first of the names, for want of one that is near."""
    more = ", ..." * (len(names) > LISTED)
    return f"; its modules are {', '.join(map(repr, names[:LISTED]))}{more}" if names else "; it has no named modules"


def _matches(pattern: str, names: list[str]) -> list[str]:
    found = fnmatch.filter(names, pattern)
    if found:
        return found
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3)
    hint = f"; did you mean {', '.join(map(repr, near))}?" if near else _listed(names)
    raise UsageError(f"sites: pattern {pattern!r} matches no module of the target{hint}")


def _site(name: str, module: nn.Module, part: str | None, kinds: Sequence[type[Site]]) -> Site:
    kind = next((kind for kind in kinds if kind.suits(module)), None)
    if kind is None:
        raise UsageError(
            f"sites: module {name!r} is a {type(module).__name__}, which is no kind of site ("
            f"{', '.join(kind.__name__ for kind in kinds)}); narrow the pattern, leave it out, or give a kind for "
            "it in kinds"
        )
    objection = kind.objection(module)
    if objection is not None:
        raise UsageError(f"sites: module {name!r} is {objection}; narrow the pattern or leave it out")
    return kind(module, None if part is None else _rows(name, part, kind(module).d_out))


def _rows(name: str, part: str, whole: int) -> list[range]:
    """The rows that a part names."""
    if ":" in part:
        rows = [_slice(name, one, whole) for one in part.split(",")]
        if sum(map(len, rows)) > len({index for run in rows for index in run}):
            raise UsageError(f"sites: {name!r} names a row twice; name each once")
        return rows
    if part not in PARTS:
        known = ", ".join(f"[{one}]" for one in PARTS)
        raise UsageError(f"sites: {name!r}: there is no part {part!r}; the parts are {known}, or rows such as [0:64]")
    index, count = PARTS[part]
    if whole % count:
        raise UsageError(
            f"sites: {name!r}: {whole} rows cannot be {count} equal parts; name the rows, such as [0:{whole // count}]"
        )
    size = whole // count
    return [range(index * size, (index + 1) * size)]


def _slice(name: str, text: str, whole: int) -> range:
    first, _, last = (side.strip() for side in text.partition(":"))
    if not all(side.isdigit() or not side for side in (first, last)):
        raise UsageError(f"sites: {name!r}: rows are given as [first:last], got {text!r}")
    start, stop = int(first or 0), int(last or whole)
    if not 0 <= start < stop <= whole:
        raise UsageError(f"sites: {name!r}: rows must lie within [0:{whole}], got [{text.strip()}]")
    return range(start, stop)


def _check_apart(name: str, site: Site, found: Mapping[str, tuple[Site, int]]) -> None:
    """Refuse a site that shares rows with one that was found before."""
    whole = [range(len(site.matrix()))]
    for other, (before, _) in found.items():
        if before.module is not site.module:
            continue
        if other == name:
            raise UsageError(f"sites: module {name!r} is matched by two patterns; keep one of them")
        rows, taken = site.rows or whole, before.rows or whole
        if any(max(a.start, b.start) < min(a.stop, b.stop) for a in rows for b in taken):
            raise UsageError(f"sites: {other!r} and {name!r} are the same rows of one module; keep them apart")
