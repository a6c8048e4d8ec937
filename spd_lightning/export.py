"""The public artefact: ``components.safetensors`` beside ``config.json``. Reading it runs no code from it."""

import functools
import json
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from spd_lightning import targets
from spd_lightning.artefact_sizes import check_component_sizes, check_full_sizes, check_target_size
from spd_lightning.describe import class_path, describe, init_args
from spd_lightning.errors import UsageError
from spd_lightning.files import is_file, written_whole
from spd_lightning.fingerprint import fingerprint, state_fingerprint
from spd_lightning.model import AttributedModel, CIFunction, ComponentModel, DecomposedModel, GateMLP, SharedMLP
from spd_lightning.tensor_files import read_safetensors

WEIGHTS_NAME = "components.safetensors"
CONFIG_NAME = "config.json"
FORMAT = 1
MAX_CONFIG = 2**24
"""Signs of a config that are read."""
_TARGET_PREFIX = "target."
STOCHASTIC, ATTRIBUTION = "stochastic", "attribution"
"""Methods by the name that ``config.json`` gives them; without one it is the first."""
Known = TypeVar("Known", bound=nn.Module)
Model = TypeVar("Model", bound=ComponentModel[Any])
_CI_FUNCTIONS: tuple[type[CIFunction], ...] = (GateMLP, SharedMLP)
_TARGETS: tuple[type[nn.Module], ...] = (targets.ToyModelOfSuperposition, targets.ResidualMLP)


def library_version() -> str:
    """Version of the installed package."""
    try:
        return version("spd-lightning")
    except PackageNotFoundError:  # running from a checkout that was never installed
        return "unknown"


def save_decomposition(
    model: ComponentModel[Any],
    folder: str | Path,
    include_target: bool = True,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a decomposition.

    Args:
        model: what to write.
        folder: where; existing files of the two names are replaced, each as a whole.
        include_target: whether the target's weights go into the file.
        state: whole tensors by name, where the model's own are sharded over processes; ``None`` asks the model.
    """
    folder = Path(folder)
    state = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in (model.state_dict() if state is None else state).items()
        if include_target or not name.startswith(_TARGET_PREFIX)
    }
    with written_whole(folder / WEIGHTS_NAME) as aside:
        save_file(state, aside, metadata={"format": str(FORMAT)})
    with written_whole(folder / CONFIG_NAME) as aside:
        config = {**_config(model, include_target), "weights_fingerprint": state_fingerprint(state)}
        aside.write_text(json.dumps(config, indent=2) + "\n")


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
    return _loaded(Path(folder), STOCHASTIC, lambda config, state: _built(config, state, target, ci_fn))


def load_attributed(folder: str | Path, target: nn.Module | None = None) -> AttributedModel:
    """Read what :func:`save_decomposition` wrote of an :class:`AttributedModel`.

    Args:
        folder: the folder with both files.
        target: see :func:`load_decomposition`.

    Returns:
        The components on their target.

    Raises:
        UsageError: if files are missing, damaged, of another format or method, or do not fit.
    """
    return _loaded(Path(folder), ATTRIBUTION, lambda config, state: _built_attributed(config, state, target))


def load_model(folder: str | Path) -> ComponentModel[Any]:
    """Read either, of a target whose class is one of this package's; see :func:`load_decomposition`."""
    method = _read_config(Path(folder) / CONFIG_NAME).get("method", STOCHASTIC)
    return load_attributed(folder) if method == ATTRIBUTION else load_decomposition(folder)


def _loaded(folder: Path, method: str, build: Callable[[dict[str, Any], dict[str, Tensor]], Model]) -> Model:
    config, state = read_artefact(folder)
    found = config.get("method", STOCHASTIC)
    if found != method:
        other = "AttributedModel" if found == ATTRIBUTION else "DecomposedModel"
        raise UsageError(f"{folder}: method: {found!r}, not {method!r}; use {other}.from_pretrained")
    try:
        return _filled(build(config, state), state, config, str(folder))
    except UsageError:
        raise
    except Exception as error:  # anybody may have written it, and anything may be in it
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{str(folder / CONFIG_NAME)!r} is damaged ({reason})") from None


def read_artefact(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Both files of an artefact, as data.

    Args:
        folder: the folder that holds them.

    Returns:
        The content of ``config.json``, and the tensors by name.

    Raises:
        UsageError: if one is missing or damaged, or they do not belong together.
    """
    config = _read_config(folder / CONFIG_NAME)
    state = read_safetensors(folder / WEIGHTS_NAME, "components")
    recorded = config.get("weights_fingerprint")  # artefacts of earlier versions have none
    if recorded is not None and recorded != state_fingerprint(state):
        raise UsageError(f"{folder}: {WEIGHTS_NAME} is damaged, or not the one that {CONFIG_NAME} belongs to")
    return config, state


def _built(
    config: dict[str, Any],
    state: dict[str, Tensor],
    target: nn.Module | None,
    ci_fn: Callable[[int, int], CIFunction] | None,
) -> DecomposedModel:
    """The model that a config describes, with weights of its own; nothing larger than the file is built."""
    target, sites = _target(config, state, target), _counts(config)
    gate = _known(config["ci_fn"], _CI_FUNCTIONS, "ci_fn") if ci_fn is None else None
    check_component_sizes(target, sites, config["ci_fn"], gate, state)
    if gate is not None:
        ci_fn = functools.partial(gate, **config["ci_fn"]["init_args"])
    assert ci_fn is not None
    options = {name: config[name] for name in ("leak", "use_delta", "init", "ties", "tied_updates", "seed")}
    return DecomposedModel(target, sites, ci_fn, **options)


def _built_attributed(config: dict[str, Any], state: dict[str, Tensor], target: nn.Module | None) -> AttributedModel:
    target, sites = _target(config, state, target), _counts(config)
    check_full_sizes(target, dict.fromkeys(sites, config["n_components"]), config["rank"], state)
    options = {name: config[name] for name in ("n_components", "rank", "attribution_source", "ties", "init_scale")}
    return AttributedModel(target, list(sites), **options, seed=config["seed"])


def _target(config: dict[str, Any], state: dict[str, Tensor], given: nn.Module | None) -> nn.Module:
    """The target that a config describes, if none is given; not if it were larger than the file."""
    if given is not None:
        return given
    known = _known(config["target"], _TARGETS, "target")
    check_target_size(known, config["target"]["init_args"], state)
    return known(**config["target"]["init_args"])


def _counts(config: dict[str, Any]) -> dict[str, int]:
    return {name: site["C"] for name, site in config["sites"].items()}


def _config(model: ComponentModel[Any], include_target: bool) -> dict[str, Any]:
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
        **_of_method(model),
        **init_args(model, {"target", "sites", "ci_fn"}),
    }


def _of_method(model: ComponentModel[Any]) -> dict[str, Any]:
    if isinstance(model, DecomposedModel):
        return {"method": STOCHASTIC, "ci_fn": model.describe_ci_fn()}
    return {"method": ATTRIBUTION}


def _read_config(path: Path) -> dict[str, Any]:
    if not is_file(path):
        raise UsageError(f"{str(path)!r} does not exist; is this the directory of a finished run?")
    try:
        with path.open(encoding="utf-8") as file:
            config = json.loads(file.read(MAX_CONFIG))
    except (ValueError, OSError, RecursionError):
        raise UsageError(f"{str(path)!r} is damaged or no JSON file") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UsageError(f"{str(path)!r} is not of format {FORMAT}, the one that this version reads")
    return config


def _known(described: dict[str, Any], classes: tuple[type[Known], ...], argument: str) -> type[Known]:
    """A class of ours by its path. Nothing is imported by name."""
    for cls in classes:
        if described["class_path"] == class_path(cls):
            return cls
    raise UsageError(f"the {argument} is a {described['class_path']}, which is not built in; pass {argument}=...")


def _filled(model: Model, state: dict[str, Tensor], config: dict[str, Any], origin: str) -> Model:
    if not config["target_included"]:
        if fingerprint(model.target) != config["target_fingerprint"]:
            raise UsageError(f"{origin}: target: its weights are not the ones that were decomposed")
        state |= {_TARGET_PREFIX + name: tensor for name, tensor in model.target.state_dict().items()}
    kind = next((tensor.dtype for tensor in state.values()), torch.int64)
    if not kind.is_floating_point:
        raise UsageError(f"{origin}: {WEIGHTS_NAME} holds no floating-point numbers")
    model.to(kind)
    targets.recipes.load_state(model, state, origin)
    return model
