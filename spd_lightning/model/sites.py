"""From patterns of module paths to the linear layers they name."""

import difflib
import fnmatch
from collections.abc import Mapping

from torch import nn

from spd_lightning.errors import UsageError, check_whole


def _check_supported(name: str, module: nn.Module) -> nn.Linear:
    if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
        return module
    raise UsageError(
        f"sites: module {name!r} is a {type(module).__name__}, but only torch.nn.Linear can be decomposed; "
        "narrow the pattern or leave it out"
    )


def _matches(pattern: str, names: list[str]) -> list[str]:
    found = fnmatch.filter(names, pattern)
    if found:
        return found
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
    hint = f"; did you mean {', '.join(map(repr, near))}?" if near else "; it has no named modules"
    raise UsageError(f"sites: pattern {pattern!r} matches no module of the target{hint}")


def find_sites(target: nn.Module, patterns: Mapping[str, int]) -> dict[str, tuple[nn.Linear, int]]:
    """Resolve patterns to sites.

    Args:
        target: the network.
        patterns: ``fnmatch`` patterns of module paths (``"layers.*.mlp_in"``) to components per site ``C``.

    Returns:
        Site name to its layer and ``C``, in the order of the target's modules.

    Raises:
        UsageError: if there is no pattern, one matches nothing, two match the same module, a match is no
            ``nn.Linear``, or ``C`` is below 1.
    """
    if not isinstance(patterns, Mapping):
        raise UsageError(f"sites must map patterns to numbers of components, got {patterns!r}")
    if not patterns:
        raise UsageError("sites: at least one pattern is needed, for example {'linear*': 20}")
    modules = {name: module for name, module in target.named_modules() if name}
    found: dict[str, int] = {}
    for pattern, count in patterns.items():
        check_whole(f"sites: C of {pattern!r}", count)
        if count < 1:
            raise UsageError(f"sites: C must be at least 1, got {count} for {pattern!r}")
        for name in _matches(pattern, list(modules)):
            if name in found:
                raise UsageError(f"sites: module {name!r} is matched by two patterns; keep one of them")
            found[name] = count
    return {name: (_check_supported(name, modules[name]), found[name]) for name in modules if name in found}
