"""Random changes of the size of an edit, at its sites: what it is held against."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from spd_lightning.analysis.editing import Change
from spd_lightning.functional import keyed_generator
from spd_lightning.model import ComponentModel, Components

DIRECTIONS, COMPONENTS = "random directions", "random components"
"""Names of both kinds."""
Changes = Mapping[str, Change]


@torch.no_grad()
def controls(
    model: ComponentModel,
    found: Changes,
    edited: Mapping[str, set[int]],
    alive: Mapping[str, Tensor],
    draws: int,
    seed: int,
) -> dict[str, list[Changes]]:
    """Random changes, each as large as the edit at every site.

    Args:
        model: the decomposition.
        found: what the edit adds to each site's matrix.
        edited: numbers of the edited components of every site.
        alive: components that are important anywhere on the data, boolean ``[C]`` by site.
        draws: changes of each kind.
        seed: seeds them.

    Returns:
        By :data:`DIRECTIONS`, as many matrices of rank one as components are edited, in directions that are uniform on
        the spheres; by :data:`COMPONENTS`, as many other components that are alive, removed together. The latter are
        left out where a site has none.
    """
    others = {name: _others(model.components[name], edited[name], alive[name]) for name in found}
    every: dict[str, list[Changes]] = {DIRECTIONS: [], COMPONENTS: []}
    for draw in range(draws):
        generators = {name: keyed_generator(seed, "edit", draw, name) for name in found}
        every[DIRECTIONS].append({name: _directions(change, generators[name]) for name, change in found.items()})
        if all(map(len, others.values())):
            removed = {
                name: _removed(model.components[name], others[name], found[name], generators[name]) for name in found
            }
            every[COMPONENTS].append(removed)
    return {kind: some for kind, some in every.items() if some}


def _others(parts: Components, edited: set[int], alive: Tensor) -> Tensor:
    """Numbers of the components of a site that are alive, not edited, and not 0."""
    kept = alive & parts.U.flatten(1).any(1).cpu() & parts.V.movedim(1, 0).flatten(1).any(1).cpu()
    kept[list(edited)] = False
    return kept.nonzero()[:, 0]


def _directions(change: Change, generator: Generator) -> Change:
    read = normalize(_drawn(change.read, generator), dim=0)
    write = normalize(_drawn(change.write, generator), dim=1) * _sizes(change)[:, None]
    return _as_large(Change(read, write, ()), change)


def _removed(parts: Components, others: Tensor, change: Change, generator: Generator) -> Change:
    chosen = others[torch.randperm(len(others), generator=generator)[: len(change.components)]].tolist()
    write = -parts.U[chosen].reshape(-1, parts.U.shape[-1])
    return _as_large(Change(parts.V[:, chosen].flatten(1), write, tuple(chosen)), change)


def _drawn(like: Tensor, generator: Generator) -> Tensor:
    """Normal numbers, the same on every device."""
    drawn: Tensor = torch.randn(like.shape, generator=generator)
    return drawn.to(like)


def _sizes(change: Change) -> Tensor:
    """Frobenius norm of each of the matrices of rank one, ``[k]``."""
    sizes: Tensor = torch.linalg.vector_norm(change.read, dim=0) * torch.linalg.vector_norm(change.write, dim=1)
    return sizes


def _as_large(drawn: Change, change: Change) -> Change:
    """A change scaled to the Frobenius norm of another."""
    size = drawn.norm()
    return drawn._replace(write=drawn.write * (change.norm() / size if size else 0.0))
