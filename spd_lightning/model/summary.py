"""A decomposition as a table."""

from collections.abc import Mapping, Sequence

from torch import nn

from spd_lightning.model.components import Components

HEADER = ("site", "kind", "in", "out", "C", "parameters")


def summary(components: Mapping[str, Components], importance_function: nn.Module, target: nn.Module) -> str:
    """A line per site, and how many parameters are trained beside how many are frozen.

    Args:
        components: of every site.
        importance_function: what predicts importances.
        target: the frozen network.

    Returns:
        Several lines of text.
    """
    lines = [HEADER, *(_line(name, parts) for name, parts in components.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    function = f"{type(importance_function).__name__}: {_size(importance_function)} parameters"
    return "\n".join([*table, f"importance  {function}", f"target      {_size(target)} parameters, frozen"])


def _line(name: str, parts: Components) -> Sequence[str]:
    kind = type(parts.site).__name__.removesuffix("Site").lower() or "site"
    owned = f"{parts.V.numel() + parts.U.numel():,}" if parts.owns_factors else "shared"
    return name, kind, str(parts.V.shape[0]), str(parts.U.shape[-1]), str(parts.n_components), owned


def _size(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"
