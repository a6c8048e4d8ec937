"""Configs of the networks of the list, as a user would write them."""

from pathlib import Path
from typing import Any

from tests.networks.data import saved_weights
from tests.networks.zoo import ZOO, network

STEPS, HALFWAY = 100, 50


def config_of(name: str, folder: Path) -> dict[str, Any]:
    """What a user would write to take a network of the list apart, and beside it the network's weights."""
    entry, cls = ZOO[name], type(network(name))
    data = {"class_path": "tests.networks.data.Examples", "init_args": {"network": name}}
    kl = {"distance": "kl"} if entry.options.get("kl") or "embed" in entry.sites else {}
    model = {
        "target": {"class_path": f"{cls.__module__}.{cls.__qualname__}"},
        "recipe": {
            "class_path": "LoadedWeights",
            "init_args": {"path": saved_weights(network(name), str(folder / "weights.pt"))},
        },
        "sites": entry.sites,
        "importance": {
            "class_path": "PerSite",
            "init_args": {"function": {"class_path": "GateMLP", "init_args": {"hidden": [4]}}},
        },
        "losses": {
            "faithfulness": {"class_path": "Faithfulness"},
            "stochastic": {"class_path": "Reconstruction", "init_args": {"routing": "subset", **kl}},
            "importance": {"class_path": "ImportanceMinimality", "init_args": {"coefficient": 1e-4}},
        },
    }
    if entry.call is not None:
        model["call"] = entry.call
    return {
        "trainer": {
            "max_steps": STEPS,
            "val_check_interval": HALFWAY,
            "enable_progress_bar": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": "runs", "name": "net", "default_hp_metric": False},
            },
            "callbacks+": [
                {"class_path": "Checkpoints", "init_args": {"every_n_train_steps": HALFWAY, "save_top_k": -1}},
            ],
        },
        "model": model,
        "data": {
            "class_path": "DatasetBatches",
            "init_args": {
                "train": data,
                "val": {**data, "init_args": {"network": name, "batches": 2, "first": 90}},
                "predict": {**data, "init_args": {"network": name, "batches": 1, "first": 95}},
                "batch_size": 4,
                "val_batch_size": 4,
            },
        },
    }
