"""Finds weights that a network uses in another way than by calling their modules."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spd_lightning.model.wrapping import Original, Wrapping


def bypassed_module(wrapping: Wrapping, batch: Any) -> str | None:
    """The first module of a site whose weight is used without calling it.

    While a module is not being called its parameters are NaN. What NaN reaches used them in another way.

    Args:
        wrapping: the target and its sites.
        batch: as the call takes it.

    Returns:
        The module's path; ``None`` if there is no such module.
    """
    if not _spoiled(wrapping, batch, list(wrapping.modules)):
        return None
    return next((path for path in wrapping.modules if _spoiled(wrapping, batch, [path])), None)


def _spoiled(wrapping: Wrapping, batch: Any, paths: Sequence[str]) -> bool:
    """Whether weights that are NaN but while their modules run make a difference."""
    hidden = {path: _Hidden(parameters) for path, parameters in _private(wrapping, paths).items()}

    def run(path: str, index: int, site_input: Tensor, original: Original) -> Any:
        with hidden[path].in_sight():
            return original(site_input)

    if not hidden:
        return False
    with torch.no_grad():
        for one in hidden.values():
            one.spoil()
        try:
            output = wrapping.run(batch, run, modules=hidden).output
        except Exception:  # any failure shows that NaN was read
            return True
        finally:
            for one in hidden.values():
                one.restore()
    return bool(output.isnan().any())


def _private(wrapping: Wrapping, paths: Sequence[str]) -> dict[str, list[nn.Parameter]]:
    """Parameters of modules, but for those that other modules have too; modules without any are left out."""
    layers = {path: wrapping.module(path) for path in wrapping.modules}
    owners: dict[int, set[int]] = {}
    for module in wrapping.target.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(module))
    private = {}
    for path in paths:
        own = {id(part) for part in layers[path].modules()}
        parameters = [p for p in layers[path].parameters() if p.is_floating_point() and owners[id(p)] <= own]
        # a hook that runs before the module may compute its weight
        if parameters and not layers[path]._forward_pre_hooks:
            private[path] = parameters
    return private


class _Hidden:
    """Parameters whose numbers are hidden except inside a ``with`` block."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._pairs = [(p, p.data, torch.full_like(p.data, float("nan"))) for p in parameters]

    def spoil(self) -> None:
        """Put NaN in their place."""
        for parameter, _, spoiled in self._pairs:
            parameter.data = spoiled

    def restore(self) -> None:
        """Put them back."""
        for parameter, numbers, _ in self._pairs:
            parameter.data = numbers

    @contextmanager
    def in_sight(self) -> Iterator[None]:
        """Put them back for the length of a ``with`` block."""
        self.restore()
        try:
            yield
        finally:
            self.spoil()
