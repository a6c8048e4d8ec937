"""A module whose components and importance functions may be sharded over processes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, TypeVar

from lightning.pytorch import LightningModule

from spd_lightning.model import ComponentModel
from spd_lightning.parallel.sharding import ShardedParameters, gathered

Result = TypeVar("Result")


class Shardable(LightningModule):
    """Trains a decomposed model, whole on every process or, where the strategy asks for it, in shards.

    Args:
        model: what is trained.
    """

    def __init__(self, model: ComponentModel) -> None:
        super().__init__()
        self.model = model
        self._shards: tuple[ShardedParameters, ...] = ()  # a tuple hides it from nn.Module's registration
        self._evaluation = ExitStack()

    def configure_model(self) -> None:
        """Shard components and importance functions, where the strategy made a mesh of processes."""
        if self.device_mesh is not None and not self._shards:
            self._shards = (ShardedParameters(self.model, self.device_mesh["data_parallel"]),)

    @property
    def is_sharded(self) -> bool:
        """Whether every process keeps a part of each parameter."""
        return bool(self._shards)

    def keep_whole_parameters(self) -> None:
        """Inside :meth:`whole_parameters`: keep what was written into them, if they are sharded."""
        for shards in self._shards:
            shards.keep()

    def whole_parameters(self) -> AbstractContextManager[None]:
        """Whole parameters for the length of a ``with`` block, which all processes must enter, if they are sharded."""
        return self._shards[0].whole() if self._shards else nullcontext()

    def with_whole_parameters(self, compute: Callable[..., Result], *args: Any) -> Result:
        """Call something that returns a loss; where parameters are sharded, its gradient will be so too."""
        result: Result = self._shards[0](compute, *args) if self._shards else compute(*args)
        return result

    def whole_state(self) -> dict[str, Any]:
        """Weights of the model, whole, on the CPU; all processes must ask. Whole parameters stay whole."""
        state: dict[str, Any] = gathered(self.model.state_dict())
        for sharded in self._shards:
            sharded.restore()
        return state

    def on_validation_start(self) -> None:
        """Let callbacks see whole parameters."""
        self._evaluation.enter_context(self.whole_parameters())

    def on_validation_end(self) -> None:
        """Shard them again."""
        self._evaluation.close()

    def on_test_start(self) -> None:
        """Let callbacks see whole parameters."""
        self._evaluation.enter_context(self.whole_parameters())

    def on_test_end(self) -> None:
        """Shard them again."""
        self._evaluation.close()
