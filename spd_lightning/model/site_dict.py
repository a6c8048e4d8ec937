"""Modules by site name."""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Generic, TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


class SiteDict(nn.Module, Generic[M]):
    """Like ``nn.ModuleDict``, for keys with dots: site ``layers.0.fc`` is submodule ``layers-0-fc``.

    Args:
        modules: modules by site name.
    """

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        self._keys = {name: name.replace(".", "-") for name in modules}
        if len(set(self._keys.values())) < len(self._keys):
            raise ValueError(f"site names must differ in more than '.' and '-', got {list(modules)}")
        for name, module in modules.items():
            self.add_module(self._keys[name], module)

    def __getitem__(self, site: str) -> M:
        return cast(M, self._modules[self._keys[site]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, site: object) -> bool:
        return site in self._keys

    def items(self) -> ItemsView[str, M]:
        """Pairs of site name and module, in order."""
        return {site: self[site] for site in self}.items()

    def values(self) -> ValuesView[M]:
        """Modules, in order."""
        return {site: self[site] for site in self}.values()
