"""Which modules of a network can be taken apart, and why the others cannot."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from spd_lightning.errors import UsageError
from spd_lightning.model import Site, TargetCall, Wrapping
from spd_lightning.model.acceptance import taking
from spd_lightning.model.bypass import bypassed_module
from spd_lightning.model.sites import KINDS, EmbeddingSite, find_sites
from spd_lightning.model.ties import parameter_of
from spd_lightning.model.wrapping import Original

FUSED = ("c_attn", "in_proj", "qkv")
"""Names that layers have which put out queries, keys and values, one after the other."""
UNFUSED = "the network uses its weight without calling it; Unfused has a form that does, see docs/networks.md"


class Candidates(NamedTuple):
    """What a network offers.

    Attributes:
        sites: names of sites, parts of fused matrices by themselves, in the order of the network's modules.
        left_out: why a module that holds a matrix is none, by its path.
    """

    sites: tuple[str, ...]
    left_out: dict[str, str]


def find_candidates(target: nn.Module, call: TargetCall, batch: Any, kinds: Sequence[type[Site]] = ()) -> Candidates:
    """Every matrix that the network multiplies by on a batch, look-ups left out.

    Args:
        target: the network, frozen and in eval mode.
        call: how the batch becomes its arguments.
        batch: as the call takes it.
        kinds: kinds of sites of your own.

    Returns:
        Names of sites, and the modules that are none.

    Raises:
        UsageError: if there is no site at all, or the network cannot be called with the batch.
    """
    suited, left_out = _by_kind(target, (*kinds, *KINDS))
    sites = {name: site for name in suited for site, _ in find_sites(target, {name: 1}, kinds).values()}
    left_out |= _shared_with_a_table(target, sites)
    sites = {name: site for name, site in sites.items() if name not in left_out}
    left_out |= _out_of_reach(target, call, batch, sites)
    found = tuple(part for name, site in sites.items() if name not in left_out for part in _parts(name, site))
    if not found:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(left_out.items())[:3])
        raise UsageError(f"target: no module of it can be a site ({reasons or 'none holds a matrix'}); name sites")
    return Candidates(found, left_out)


def _by_kind(target: nn.Module, kinds: Sequence[type[Site]]) -> tuple[list[str], dict[str, str]]:
    """Modules that some kind suits, and reasons for others that hold a matrix themselves."""
    suited: list[str] = []
    left_out: dict[str, str] = {}
    for name, module in target.named_modules():
        if any(name.startswith(f"{above}.") for above in suited):  # how a weight is computed
            continue
        kind = next((kind for kind in kinds if kind.suits(module)), None) if name else None
        objection = None if kind is None else kind.objection(module)
        if kind is not None and issubclass(kind, EmbeddingSite):
            left_out[name] = objection or "a look-up: it holds one vector per token already; name it to decompose it"
        elif kind is not None and objection is None:
            suited.append(name)
        elif kind is not None or any(p.dim() > 1 for p in module.parameters(recurse=False)):
            left_out[name or "the network itself"] = objection or _no_kind(module)
    return suited, left_out


def _no_kind(module: nn.Module) -> str:
    fused = isinstance(module, nn.MultiheadAttention)
    way_out = "Unfused gives it a form with a layer per matrix" if fused else "model.kinds takes one of your own"
    return f"a {type(module).__name__}, which is no kind of site; {way_out}"


def _shared_with_a_table(target: nn.Module, sites: Mapping[str, Site]) -> dict[str, str]:
    """Sites whose weight is an embedding's, as language models tie their unembedding."""
    tables = {id(m.weight): name for name, m in target.named_modules() if isinstance(m, nn.Embedding)}
    shared = {name: tables.get(id(parameter_of(site))) for name, site in sites.items()}
    return {name: f"its weight is that of the look-up {table!r}" for name, table in shared.items() if table is not None}


def _out_of_reach(target: nn.Module, call: TargetCall, batch: Any, sites: Mapping[str, Site]) -> dict[str, str]:
    """Sites that the network does not call, or whose weight it uses in another way."""
    if not sites:
        return {}
    called: set[str] = set()

    def note(path: str, index: int, site_input: Any, original: Original) -> Any:
        called.add(path)
        return original(site_input)

    wrapping = Wrapping(target, call, sites)
    with torch.no_grad(), taking(call, batch):
        output = wrapping.run(batch, note).output
    # a bypass shows by NaN in the output; where there is some anyway, the check of the network says so
    bypassed = set() if output.isnan().any() else set(_bypassed(target, call, batch, sites))
    silent = {name: "the network never calls it on this data" for name in sites if name not in called}
    return silent | {name: UNFUSED for name in sites if name in bypassed}


def _bypassed(target: nn.Module, call: TargetCall, batch: Any, sites: Mapping[str, Site]) -> Iterator[str]:
    left = dict(sites)
    while left:
        path = bypassed_module(Wrapping(target, call, left), batch)
        if path is None:
            return
        del left[path]
        yield path


def _parts(name: str, site: Site) -> list[str]:
    """The site, or queries, keys and values where one matrix fuses them."""
    fused = name.rpartition(".")[2] in FUSED and site.d_out == 3 * site.d_in
    return [f"{name}[{part}]" for part in "qkv"] if fused else [name]
