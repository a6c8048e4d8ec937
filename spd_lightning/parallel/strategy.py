"""``--trainer.strategy sharded``: Lightning's model-parallel strategy, with the checkpoints of every other strategy."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy, StrategyRegistry
from torch import Tensor
from torch.optim import Optimizer

from spd_lightning.parallel.sharding import gathered, sharded_like


class ShardedStrategy(ModelParallelStrategy):
    """Every process keeps a shard of all components and importance functions (FSDP2) and its rows of each batch.

    Lightning's own writes a folder of shards, or moments in another order; this one writes the file that a run of one
    process does, so that a run can go on with another strategy.

    Args:
        process_group_backend: ``gloo`` or ``nccl``; ``None`` chooses by the device.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=False, process_group_backend=process_group_backend
        )

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning hands the moments to :meth:`load_optimizer_state_dict`."""
        return True

    def setup_environment(self) -> None:
        """All processes share the parameters."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole state, on every process."""
        assert self.lightning_module is not None
        state: dict[str, Any] = gathered(self.lightning_module.state_dict())
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole moments, on every process."""
        state: dict[str, Any] = gathered(optimizer.state_dict())
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write one file, on rank zero, as every other strategy does."""
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read one file, on every process, as every other strategy does."""
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)

    @torch.no_grad()
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Cut the state into shards; that its names and shapes fit has been checked."""
        assert self.lightning_module is not None
        for name, own in self.lightning_module.state_dict().items():
            own.copy_(sharded_like(own, checkpoint["state_dict"][name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Cut the moments into shards."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            cut = {number: _cut(parameters[number], moments) for number, moments in state["state"].items()}
            optimizer.load_state_dict({**state, "state": cut})


def _cut(parameter: Tensor, moments: Mapping[str, Any]) -> dict[str, Any]:
    same = {name for name, value in moments.items() if isinstance(value, Tensor) and value.shape == parameter.shape}
    return {name: sharded_like(parameter, value) if name in same else value for name, value in moments.items()}


StrategyRegistry.register("sharded", ShardedStrategy, description="Components and gates in shards, one per process")
