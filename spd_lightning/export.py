"""The public artefact: ``components.safetensors`` beside ``config.json``. Reading it runs no code from it."""

import functools
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from spd_lightning import targets
from spd_lightning.describe import class_path, describe, init_args
from spd_lightning.errors import UsageError
from spd_lightning.files import read_safetensors, written_whole
from spd_lightning.fingerprint import fingerprint
from spd_lightning.model import CIFunction, DecomposedModel, GateMLP, SharedMLP

WEIGHTS_NAME = "components.safetensors"
CONFIG_NAME = "config.json"
FORMAT = 1
_TARGET_PREFIX = "target."
_CI_FUNCTIONS: tuple[type[CIFunction], ...] = (GateMLP, SharedMLP)
_TARGETS: tuple[type[nn.Module], ...] = (targets.ToyModelOfSuperposition, targets.ResidualMLP)


def library_version() -> str:
    """Version of the installed package."""
    try:
        return version("spd-lightning")
    except PackageNotFoundError:  # running from a checkout that was never installed
        return "unknown"


def save_decomposition(model: DecomposedModel, folder: str | Path, include_target: bool = True) -> None:
    """Write a decomposition.

    Args:
        model: what to write.
        folder: where; existing files of the two names are replaced, each as a whole.
        include_target: whether the target's weights go into the file.
    """
    folder = Path(folder)
    state = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in model.state_dict().items()
        if include_target or not name.startswith(_TARGET_PREFIX)
    }
    with written_whole(folder / WEIGHTS_NAME) as aside:
        save_file(state, aside, metadata={"format": str(FORMAT)})
    with written_whole(folder / CONFIG_NAME) as aside:
        aside.write_text(json.dumps(_config(model, include_target), indent=2) + "\n")


def load_decomposition(
    folder: str | Path, target: nn.Module | None = None, ci_fn: Callable[[int, int], CIFunction] | None = None
) -> DecomposedModel:
    """Read what :func:`save_decomposition` wrote.

    Args:
        folder: the folder with both files.
        target: an instance of the decomposed network; needed if its class is not one of this package's. If the file
            holds the target's weights they are loaded into it, otherwise its own must be the decomposed ones.
        ci_fn: builds the causal-importance functions; needed if their class is not one of this package's.

    Returns:
        The decomposition.

    Raises:
        UsageError: if files are missing, damaged, of another format, or do not fit.
    """
    config = _read_config(Path(folder) / CONFIG_NAME)
    state = read_safetensors(Path(folder) / WEIGHTS_NAME, "components")
    try:
        model = DecomposedModel(
            target if target is not None else _known(config["target"], _TARGETS, "target")(),
            {name: site["C"] for name, site in config["sites"].items()},
            ci_fn or _known(config["ci_fn"], _CI_FUNCTIONS, "ci_fn"),
            **{name: config[name] for name in ("leak", "use_delta", "init", "ties", "tied_updates", "seed")},
        )
        return _filled(model, state, config, str(folder))
    except UsageError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{str(Path(folder) / CONFIG_NAME)!r} is damaged ({error})") from None


def _config(model: DecomposedModel, include_target: bool) -> dict[str, Any]:
    shapes = {
        name: {"C": parts.n_components, "d_in": parts.site.in_features, "d_out": parts.site.out_features}
        for name, parts in model.components.items()
    }
    return {
        "format": FORMAT,
        "library_version": library_version(),
        "target": describe(model.target),
        "target_included": include_target,
        "target_fingerprint": fingerprint(model.target),
        "sites": shapes,
        "ci_fn": model.describe_ci_fn(),
        **init_args(model, {"target", "sites", "ci_fn"}),
    }


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{str(path)!r} does not exist; is this the directory of a finished run?")
    try:
        config = json.loads(path.read_text())
    except (ValueError, OSError):
        raise UsageError(f"{str(path)!r} is damaged or no JSON file") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UsageError(f"{str(path)!r} is not of format {FORMAT}, the one that this version reads")
    return config


def _known(described: dict[str, Any], classes: tuple[type, ...], argument: str) -> Callable[..., Any]:
    """A class of ours by its path, with arguments bound. Nothing is imported by name."""
    for cls in classes:
        if described["class_path"] == class_path(cls):
            return functools.partial(cls, **described["init_args"])
    raise UsageError(f"the {argument} is a {described['class_path']}, which is not built in; pass {argument}=...")


def _filled(model: DecomposedModel, state: dict[str, Tensor], config: dict[str, Any], origin: str) -> DecomposedModel:
    if not config["target_included"]:
        if fingerprint(model.target) != config["target_fingerprint"]:
            raise UsageError(f"{origin}: target: its weights are not the ones that were decomposed")
        state |= {_TARGET_PREFIX + name: tensor for name, tensor in model.target.state_dict().items()}
    model.to(next(iter(state.values())).dtype)
    targets.recipes.load_state(model, state, origin)
    return model
