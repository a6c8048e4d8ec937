"""Components removed, scaled or redirected for good, in the weights of a copy of the target."""

import copy
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spd_lightning.analysis.site_fitting import FittedVectors
from spd_lightning.errors import UsageError, check_finite, check_whole
from spd_lightning.functional.precision import single
from spd_lightning.model import ComponentModel, Components, Grouping, Site
from spd_lightning.model.ties import same_memory

NEAR = 3
"""Names that are suggested for one that does not exist."""


@dataclass(frozen=True)
class Edit:
    """What becomes of one component.

    Attributes:
        site: the site's name.
        component: its number ``c`` there.
        factor: what it writes is multiplied by this; 0 removes it.
        towards: where it writes instead: a direction ``[d_out]`` of any length, or another component, by site and
            number, that it shall write like. It then writes with its own length ``‖U[c]‖``, times ``factor``. ``None``
            leaves the direction.
    """

    site: str
    component: int
    factor: float = 0.0
    towards: Tensor | tuple[str, int] | None = None


class Change(NamedTuple):
    """What is added to a site's matrix: ``(read write)ᵀ``.

    Attributes:
        read: ``[d_in, k]``.
        write: ``[k, d_out]``.
        components: the edited ones.
    """

    read: Tensor
    write: Tensor
    components: tuple[int, ...]

    def matrix(self) -> Tensor:
        """``[d_out, d_in]``."""
        return (self.read @ self.write).T

    def norm(self) -> float:
        """Frobenius norm, without the matrix, in double precision."""
        read, write = self.read.double(), self.write.double()
        return float(((read.T @ read) * (write @ write.T)).sum().clamp_min(0).sqrt())


def edited(
    model: ComponentModel,
    edits: Iterable[Edit],
    mechanisms: Grouping | None = None,
    fitted: Mapping[str, FittedVectors] | None = None,
) -> nn.Module:
    """A copy of the target without some components, or with others in their place; the target stays as it is.

    Removing is ``W − U[c] ⊗ V[:, c]``; scaling by ``s`` adds ``(s − 1) U[c] ⊗ V[:, c]``; redirecting towards the unit
    vector ``û`` with strength ``α`` adds ``(α û − U[c]) ⊗ V[:, c]``. It holds at all positions and for all inputs,
    whatever the importances are, and keeps what the components leave unexplained. Sites that are one matrix in memory,
    such as tied embeddings, change together.

    Args:
        model: the decomposition.
        edits: what becomes of which components.
        mechanisms: what belongs to a named component goes its way too; ``None`` for the model's own grouping.
        fitted: vectors to edit by instead of the components' own, see
            :func:`spd_lightning.analysis.fitted_vectors`, of all that is edited.

    Returns:
        The copy, frozen and in eval mode.

    Raises:
        UsageError: for a site or component that does not exist, edits that contradict each other, or a weight that
            cannot be written.
    """
    found = changes(model, resolved(model, edits, mechanisms), fitted)
    network = copied(model.target)
    apply(sites_in(network, model), found)
    return network


def changes(
    model: ComponentModel, chosen: Sequence[Edit], fitted: Mapping[str, FittedVectors] | None = None
) -> dict[str, Change]:
    """What edits add to the matrix of each site; of sites that are one matrix, that of one alone.

    Args:
        model: the decomposition.
        chosen: what :func:`resolved` gives.
        fitted: vectors instead of the components' own, see :func:`edited`.
    """
    parts = dict(model.components.items())
    by_site: dict[str, list[Edit]] = {}
    for edit in chosen:
        by_site.setdefault(edit.site, []).append(edit)
    return {site: _joined(parts, site, some, fitted) for site, some in by_site.items()}


def resolved(model: ComponentModel, edits: Iterable[Edit], mechanisms: Grouping | None = None) -> list[Edit]:
    """Edits with all that belongs to them, every component once, where sites share components too."""
    grouping = model.mechanisms if mechanisms is None else mechanisms
    kept: dict[tuple[str, int], Edit] = {}
    for given in edits:
        _check(model, given)
        for edit in _of_group(grouping, given):
            place = alike(model, edit.site)[0], edit.component
            before = kept.setdefault(place, edit)
            if before is not edit and not _agree(before, edit):
                raise UsageError(
                    f"edit: {_name(before.site, before.component)} and {_name(edit.site, edit.component)} are one "
                    "component, and are to become two different things; name it once"
                )
    if not kept:
        raise UsageError("edit: nothing is to be edited; name a component, such as linear1:3")
    _check_memory(model, dict.fromkeys(edit.site for edit in kept.values()))
    return list(kept.values())


def _check_memory(model: ComponentModel, sites: Iterable[str]) -> None:
    """Refuse edits of two sites that are one matrix, in components of their own: it would be changed twice."""
    for one, other in combinations(sites, 2):
        if same_memory(model.components[one].site, model.components[other].site) and other not in alike(model, one):
            raise UsageError(
                f"edit: {one!r} and {other!r} are one matrix in memory, taken apart twice; edit one of them"
            )


def alike(model: ComponentModel, site: str) -> list[str]:
    """Sites that are one matrix in memory and share their components, this one among them, in the model's order."""
    own = model.components[site]
    return [
        name
        for name, parts in model.components.items()
        if name == site or (parts.source is own.source and same_memory(parts.site, own.site))
    ]


def copied(target: nn.Module) -> nn.Module:
    """A copy of a network, in which the same weights share their memory.

    Raises:
        UsageError: if they do not.
    """
    network = copy.deepcopy(target)
    if _sharing(network) != _sharing(target):
        raise UsageError(
            f"edit: a copy of {type(target).__name__} no longer ties the weights that are tied in it; make them one "
            "nn.Parameter"
        )
    return network


def sites_in(network: nn.Module, model: ComponentModel) -> dict[str, Site]:
    """The sites of a model in another network of the same modules."""
    return {
        name: type(parts.site)(network.get_submodule(name.partition("[")[0]), parts.site.rows)
        for name, parts in model.components.items()
    }


@torch.no_grad()
def apply(sites: Mapping[str, Site], found: Mapping[str, Change]) -> None:
    """Add changes to the matrices of sites, one after the other: what shares memory gets the sum."""
    for name, change in found.items():
        site = sites[name]
        site.put(single(site.weight()) + change.matrix())


def shared_with(target: nn.Module, site: Site) -> list[str]:
    """Names, in the target's state, of whatever else is the memory of a site's parameter."""
    held = site.parameter().data_ptr()
    return next((names for pointer, names in _pointers(target).items() if pointer == held and len(names) > 1), [])


def _sharing(network: nn.Module) -> list[list[str]]:
    return list(_pointers(network).values())


def _pointers(network: nn.Module) -> dict[int, list[str]]:
    """Names of the state's tensors by where they lie."""
    found: dict[int, list[str]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and tensor.numel():
            found.setdefault(tensor.data_ptr(), []).append(name)
    return found


def _of_group(grouping: Grouping, edit: Edit) -> Iterator[Edit]:
    for site, members in grouping.members(edit.site, edit.component).items():
        yield from (Edit(site, member, edit.factor, edit.towards) for member in members)


def _agree(one: Edit, other: Edit) -> bool:
    return one.factor == other.factor and one.towards is None and other.towards is None


def _check(model: ComponentModel, edit: Edit) -> None:
    check_component(model, edit.site, edit.component)
    check_finite("edit: factor", edit.factor)
    if isinstance(edit.towards, tuple):
        check_component(model, *edit.towards)
    if edit.towards is not None and model.components[edit.site].rank is not None:
        raise UsageError("edit: redirects components of rank one, not those of the older method; remove or scale it")


def check_component(model: ComponentModel, site: str, component: int) -> None:
    """Refuse a component that does not exist, with those that are near.

    Raises:
        UsageError: naming them.
    """
    if site not in model.components:
        near = difflib.get_close_matches(site, model.site_names, n=NEAR, cutoff=0.3) or model.site_names[:NEAR]
        raise UsageError(f"edit: there is no site {site!r}; did you mean {' or '.join(near)}?")
    count = model.components[site].n_components
    check_whole(f"edit: the component of {site!r}", component, most=None)
    if not 0 <= component < count:
        nearest = ", ".join(_name(site, number) for number in _near_numbers(component, count))
        raise UsageError(
            f"edit: there is no component {_name(site, component)}; the site has {count}, the nearest are {nearest}"
        )


def _near_numbers(number: int, count: int) -> Sequence[int]:
    return range(min(NEAR, count)) if number < 0 else range(max(count - NEAR, 0), count)


def _name(site: str, component: int) -> str:
    return f"{site}:{component}"


@torch.no_grad()
def _joined(
    parts: Mapping[str, Components], site: str, edits: Sequence[Edit], fitted: Mapping[str, FittedVectors] | None
) -> Change:
    """The changes of several components of a site as one."""
    numbers = [edit.component for edit in edits]
    own = parts[site]
    read, write = (own.V[:, numbers], own.U[numbers]) if fitted is None else _fitted(fitted, site, numbers)
    added = torch.cat([_added(parts, edit, vector) for edit, vector in zip(edits, write, strict=True)])
    return Change(read.flatten(1), added, tuple(numbers))


def _fitted(fitted: Mapping[str, FittedVectors], site: str, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Read vectors ``[d_in, n]`` and write vectors ``[n, d_out]``, where all of them were fitted."""
    there = fitted[site].components if site in fitted else ()
    missing = [number for number in numbers if number not in there]
    if missing:
        raise UsageError(f"edit: {_name(site, missing[0])} is not among those that were fitted; fit all that is edited")
    chosen = [there.index(number) for number in numbers]
    return fitted[site].read[:, chosen], fitted[site].write[chosen]


def _added(parts: Mapping[str, Components], edit: Edit, own: Tensor) -> Tensor:
    """What is added to a component's write vectors, ``[m, d_out]``."""
    if edit.towards is None:
        added: Tensor = (edit.factor - 1) * own
        return added.reshape(-1, own.shape[-1])
    direction = _direction(parts, edit.towards).to(own)
    length = torch.linalg.vector_norm(direction)
    if direction.shape != own.shape or not length.isfinite() or length == 0:
        raise UsageError(
            f"edit: {_name(edit.site, edit.component)} must be redirected towards a finite direction of "
            f"{len(own)} numbers that are not all 0, got shape {list(direction.shape)}"
        )
    turned: Tensor = edit.factor * torch.linalg.vector_norm(own) * direction / length
    return (turned - own)[None]


def _direction(parts: Mapping[str, Components], towards: Tensor | tuple[str, int]) -> Tensor:
    return parts[towards[0]].U[towards[1]] if isinstance(towards, tuple) else towards
