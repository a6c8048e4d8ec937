"""The public artefact: ``components.safetensors`` beside ``config.json``. Reading it runs no code from it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import save_file
from torch import Tensor, nn

from spd_lightning.artefact.sizes import check_component_sizes, check_importance_size, check_target_size
from spd_lightning.errors import UsageError
from spd_lightning.files.describe import class_of, describe, factory, import_named, init_args, rebuilt
from spd_lightning.files.fingerprint import fingerprint, state_fingerprint
from spd_lightning.files.tensors import read_safetensors
from spd_lightning.files.version import library_version
from spd_lightning.files.whole import is_file, written_whole
from spd_lightning.model import AttributedModel, ComponentModel, DecomposedModel, ImportanceFunction, Site, TargetCall
from spd_lightning.model.decomposed import ImportanceFactory
from spd_lightning.model.importance import SiteShape
from spd_lightning.model.sites import find_sites
from spd_lightning.targets.recipes import load_state

WEIGHTS_NAME = "components.safetensors"
CONFIG_NAME = "config.json"
FORMAT = 2
MAX_CONFIG = 2**24
"""Characters of a config that are read."""
_TARGET_PREFIX = "target."
SPD, APD = "spd", "apd"
"""Methods by the name that ``config.json`` gives them."""
Model = TypeVar("Model", bound=ComponentModel)


def save_decomposition(
    model: ComponentModel,
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
    folder: str | Path,
    target: nn.Module | None = None,
    importance: ImportanceFactory | None = None,
    call: TargetCall | None = None,
    import_classes: bool = False,
) -> DecomposedModel:
    """Read what :func:`save_decomposition` wrote.

    Args:
        folder: the folder with both files.
        target: an instance of the decomposed network; needed if its class is not imported. If the file holds the
            target's weights they are loaded into it, otherwise its own must be the decomposed ones.
        importance: builds the importance function; needed if its class is not imported.
        call: how the target is called; needed if its class is not imported.
        import_classes: whether modules that the config names are imported, which runs their code.

    Returns:
        The decomposition.

    Raises:
        UsageError: if files are missing, damaged, of another format, or do not fit.
    """
    if import_classes:
        import_named(_read_config(Path(folder) / CONFIG_NAME), str(Path(folder) / CONFIG_NAME))
    return _loaded(Path(folder), SPD, lambda config, state: _built(config, state, target, importance, call))


def load_attributed(
    folder: str | Path, target: nn.Module | None = None, call: TargetCall | None = None
) -> AttributedModel:
    """Read what :func:`save_decomposition` wrote of an :class:`AttributedModel`.

    Args:
        folder: the folder with both files.
        target: see :func:`load_decomposition`.
        call: see :func:`load_decomposition`.

    Returns:
        The components on their target.

    Raises:
        UsageError: if files are missing, damaged, of another format or method, or do not fit.
    """
    return _loaded(Path(folder), APD, lambda config, state: _built_attributed(config, state, target, call))


def load_model(folder: str | Path, import_classes: bool = False) -> ComponentModel:
    """Read either, of a target whose class is imported or may be; see :func:`load_decomposition`."""
    path = Path(folder) / CONFIG_NAME
    config = _read_config(path)
    if import_classes:
        import_named(config, str(path))
    method = config.get("method", SPD)
    return load_attributed(folder) if method == APD else load_decomposition(folder)


def _loaded(folder: Path, method: str, build: Callable[[dict[str, Any], dict[str, Tensor]], Model]) -> Model:
    config, state = read_artefact(folder)
    found = config.get("method", SPD)
    if found != method:
        other = "AttributedModel" if found == APD else "DecomposedModel"
        raise UsageError(f"{folder}: method: {found!r}, not {method!r}; use {other}.from_pretrained")
    try:
        return _filled(build(config, state), state, config, str(folder))
    except UsageError:
        raise
    except Exception as error:  # the file is not trusted and may hold anything
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
    importance: ImportanceFactory | None,
    call: TargetCall | None,
) -> DecomposedModel:
    """The model that a config describes, with weights of its own; nothing larger than the file is built."""
    target, sites, kinds = _target(config, state, target), _counts(config), _kinds(config)
    found = find_sites(target, sites, kinds)
    check_component_sizes(found, state)
    if importance is None:
        importance = factory(config["importance"], ImportanceFunction, "config.json: importance")
        shapes = {name: SiteShape(count, site.d_features) for name, (site, count) in found.items()}
        check_importance_size(importance, shapes, state)
    options = {name: config[name] for name in ("leak", "use_delta", "init", "ties", "tied_updates", "seed")}
    return DecomposedModel(target, sites, _call(config, call), importance, kinds=kinds, **options)


def _built_attributed(
    config: dict[str, Any], state: dict[str, Tensor], target: nn.Module | None, call: TargetCall | None
) -> AttributedModel:
    target, sites, kinds = _target(config, state, target), _counts(config), _kinds(config)
    counts = dict.fromkeys(sites, config["n_components"])
    check_component_sizes(find_sites(target, counts, kinds), state, config["rank"])
    options = {
        name: config[name] for name in ("n_components", "rank", "attribution_source", "ties", "init_scale", "seed")
    }
    return AttributedModel(target, list(sites), **options, call=_call(config, call), kinds=kinds)


def _target(config: dict[str, Any], state: dict[str, Tensor], given: nn.Module | None) -> nn.Module:
    """The target that a config describes, if none is given; not if it were larger than the file."""
    if given is not None:
        return given
    cls = class_of(config["target"], nn.Module, "config.json: target")
    check_target_size(cls, config["target"].get("init_args", {}), state)
    target: nn.Module = rebuilt(config["target"], nn.Module, "config.json: target")
    return target


def _call(config: dict[str, Any], given: TargetCall | None) -> TargetCall:
    return rebuilt(config["call"], TargetCall, "config.json: call") if given is None else given


def _kinds(config: dict[str, Any]) -> list[type[Site]]:
    return [class_of({"class_path": path}, Site, "config.json: kinds") for path in config["kinds"]]


def _counts(config: dict[str, Any]) -> dict[str, int]:
    return {name: site["C"] for name, site in config["sites"].items()}


def _config(model: ComponentModel, include_target: bool) -> dict[str, Any]:
    shapes = {
        name: {"C": parts.n_components, "d_in": parts.site.d_in, "d_out": parts.site.d_out}
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
        "call": describe(model.call),
        **init_args(model, {"target", "sites", "importance", "call"}),
    }


def _of_method(model: ComponentModel) -> dict[str, Any]:
    if isinstance(model, DecomposedModel):
        return {"method": SPD, "importance": describe(model.importance_function)}
    return {"method": APD}


def _read_config(path: Path) -> dict[str, Any]:
    if not is_file(path):
        raise UsageError(f"{str(path)!r} does not exist; is this the directory of a finished run?")
    try:
        with path.open(encoding="utf-8") as file:
            config = json.loads(file.read(MAX_CONFIG))
    except (ValueError, OSError, RecursionError):
        raise UsageError(f"{str(path)!r} is damaged or no JSON file") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UsageError(
            f"{str(path)!r} is not of format {FORMAT}, the one that this version reads; train again, or use the "
            "version of spd_lightning that wrote it"
        )
    return config


def _filled(model: Model, state: dict[str, Tensor], config: dict[str, Any], origin: str) -> Model:
    if not config["target_included"]:
        if fingerprint(model.target) != config["target_fingerprint"]:
            raise UsageError(f"{origin}: target: its weights are not the ones that were decomposed")
        state |= {_TARGET_PREFIX + name: tensor for name, tensor in model.target.state_dict().items()}
    parameters = [tensor for name, tensor in state.items() if not name.startswith(_TARGET_PREFIX)]
    if not parameters or not all(tensor.dtype.is_floating_point for tensor in parameters):
        raise UsageError(f"{origin}: {WEIGHTS_NAME} holds no floating-point numbers")
    for module in (model.components, model.importance_function):
        module.to(parameters[0].dtype)
    if config["target_included"]:
        _cast(model.target, state)
    load_state(model, state, origin)
    return model


def _cast(target: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a target the type of the weights that it is about to get."""
    for name, tensor in target.state_dict(keep_vars=True).items():
        saved = state.get(_TARGET_PREFIX + name)
        if saved is not None and saved.is_floating_point() and tensor.is_floating_point():
            tensor.data = tensor.data.to(saved.dtype)


DecomposedModel.reader, AttributedModel.reader = load_decomposition, load_attributed
ComponentModel.writer = staticmethod(save_decomposition)
