"""Components and importance functions in shards, one on each process (FSDP2), put together where they are used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from spd_lightning.errors import UsageError
from spd_lightning.model import ComponentModel

Result = TypeVar("Result")


class ShardedParameters(nn.Module):
    """Keeps of every trained parameter one shard on each process: so also of its gradient and optimiser moments.

    Whole parameters exist from the start of a forward through this module to the end of its backward, and inside
    :meth:`whole`. The model's own modules keep their classes; this one stands beside the model.

    Args:
        model: what is sharded; its target stays whole.
        mesh: the processes.

    Raises:
        UsageError: if parameters of two sites are kept equal.
    """

    def __init__(self, model: ComponentModel, mesh: DeviceMesh) -> None:
        super().__init__()
        if model.twins:
            raise UsageError("trainer.strategy: sharded parameters cannot be kept equal; use tied_updates once, or ddp")
        parts = [parts for parts in model.components.values() if parts.owns_factors]
        functions = [f for f in (model.importance_function,) if any(True for _ in f.parameters())]
        self.sites = nn.ModuleList([*parts, *functions])
        for site in self.sites:
            fully_shard(site, mesh=mesh, reshard_after_forward=False)
        fully_shard(self, mesh=mesh)
        self._held = False

    def forward(self, compute: Callable[..., Result], *args: Any) -> Result:
        """Call something with whole parameters; a backward from what it returns leaves gradients in shards."""
        self._gather()
        return compute(*args)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Whole parameters for the length of a ``with`` block, which every process must enter."""
        if self._held:
            yield
            return
        self._gather()
        self._hold(True)
        try:
            yield
        finally:
            self._hold(False)
            self._let_go()

    @torch.no_grad()
    def keep(self) -> None:
        """Inside :meth:`whole`: cut what was written into the whole parameters into shards, as rank zero has it."""
        values = {name: parameter.detach().clone() for name, parameter in self.named_parameters()}
        self._let_go()
        for name, parameter in self.named_parameters():
            parameter.copy_(sharded_like(parameter, values[name]))
        self._gather()

    def restore(self) -> None:
        """Inside :meth:`whole`: make parameters whole again after something has cut them, as a state dict does."""
        if self._held:
            self._gather()

    def _hold(self, held: bool) -> None:
        """Whether a backward, of which there may be several, leaves whole parameters whole."""
        self._held = held
        for site in self._shards():
            site.set_reshard_after_backward(not held)

    def _gather(self) -> None:
        for site in self._shards():
            site.unshard()

    def _let_go(self) -> None:
        for site in self._shards():
            site.reshard()

    def _shards(self) -> Iterator[FSDPModule]:
        for site in self.sites:
            assert isinstance(site, FSDPModule)
            yield site


def gathered(content: Any) -> Any:
    """A container with whole tensors on the CPU in place of sharded ones; to be called by every process."""
    return tree_map_only(DTensor, lambda tensor: tensor.detach().full_tensor().cpu(), content)


def sharded_like(like: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor as ``like`` is kept: cut into shards, rank zero's numbers for all, or as it is."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)


def own_part(tensor: Tensor) -> Tensor:
    """The shard that this process keeps, or the tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
