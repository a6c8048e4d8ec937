"""Small decompositions and the trainer that fits them in a moment."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor, nn

from spd_lightning import SparseFeatures, StochasticDecomposition, ToyModelOfSuperposition
from spd_lightning.losses import Faithfulness, ImportanceMinimality, Loss, Reconstruction

BY_DESIGN = (
    r".*in eval mode at the start of training.*",  # the frozen target stays in eval mode
    r".*isinstance\(treespec, LeafSpec\).*",  # lightning 2.6 on torch 2.13
    r".*but have no `val_dataloader`.*",  # a run without validation
    r".*does not have many workers.*",  # batches are made in place
    r"Checkpoint directory .* exists and is not empty.*",  # a resumed run continues in its directory
)


@contextmanager
def expected_notices() -> Iterator[None]:
    """Let pass what Lightning says about choices that are made on purpose; every other warning stays an error."""
    with warnings.catch_warnings():
        for message in BY_DESIGN:
            warnings.filterwarnings("ignore", message)
        yield


def make_trainer(folder, **options) -> Trainer:
    """A quiet trainer on the CPU that counts steps and keeps nothing unless asked to."""
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": 4,
        "max_epochs": -1,
        "val_check_interval": None,
        "check_val_every_n_epoch": None,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "inference_mode": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return Trainer(**(settings | options))


class Batches:
    """Given batches in order. Lightning takes a plain list for several loaders."""

    def __init__(self, *batches) -> None:
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def fit(module, data, folder, ckpt_path=None, **options) -> Trainer:
    """Train and return the trainer; ``data`` is a data module or a loader."""
    trainer = make_trainer(folder, **options)
    source = {"datamodule" if isinstance(data, LightningDataModule) else "train_dataloaders": data}
    with expected_notices():
        trainer.fit(module, **source, ckpt_path=ckpt_path)
    return trainer


def toy_target() -> ToyModelOfSuperposition:
    """TMS 5-2 with fixed random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return ToyModelOfSuperposition(5, 2)


def paper_losses() -> dict[str, Loss]:
    """The four terms of the SPD paper, with its coefficients for the 5-2 toy model."""
    return {
        "faithfulness": Faithfulness(),
        "stochastic": Reconstruction(),
        "layerwise": Reconstruction(routing="layerwise"),
        "importance": ImportanceMinimality(coefficient=3e-3),
    }


def toy(**options) -> StochasticDecomposition:
    """A decomposition of :func:`toy_target`, which needs no recipe."""
    settings = {"target": toy_target(), "sites": {"linear*": 6}, "losses": paper_losses()} | options
    return StochasticDecomposition(**settings)


def features(**options) -> SparseFeatures:
    """Sparse data for :func:`toy_target`."""
    settings = {"n_features": 5, "feature_probability": 0.4, "batch_size": 16, "val_batches": 2, "val_batch_size": 8}
    return SparseFeatures(**(settings | options))


def trained_state(module) -> dict[str, Tensor]:
    """Copies of everything that training may change."""
    return {name: p.detach().clone() for name, p in module.named_parameters() if not name.startswith("model.target.")}


class Probe(Callback):
    """Calls a function after every batch and keeps the answers."""

    def __init__(self, look) -> None:
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(self.look(trainer, pl_module, outputs, batch))


class OwnNetwork(nn.Module):
    """A network of the user's own: nested, with residual stream and positions."""

    def __init__(self, width: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(depth))
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)
