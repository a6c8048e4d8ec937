"""Configs that make no sense, derived from the constructors' signatures: a new parameter is covered by itself."""

import collections.abc
import copy
import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import yaml
from lightning.pytorch import LightningDataModule

import spd_lightning
from spd_lightning import callbacks

PLACE = "@@PLACE@@"
LONG = "x" * 6000
GIGANTIC = "1" + 29 * "0"

TARGET = {"class_path": "ToyModelOfSuperposition", "init_args": {"n_features": 3, "n_hidden": 3}}
BASE: dict[str, Any] = {
    "trainer": {"max_steps": 1, "val_check_interval": 1, "callbacks+": []},
    "model": {
        "target": TARGET,
        "recipe": {"class_path": "FeatureTraining", "init_args": {"steps": 2, "batch_size": 4}},
        "sites": {"linear*": 4},
        "losses": {"stochastic": {"class_path": "Reconstruction"}},
        "optimization": {},
        "warmup": {},
        "merging": {},
        "speed": {"compile": False},
        "importance": {"class_path": "PerSite", "init_args": {}},
    },
    "data": {"class_path": "SparseFeatures", "init_args": {"n_features": 3, "batch_size": 8, "val_batch_size": 8}},
}
ATTRIBUTION_BASE: dict[str, Any] = {
    **{name: BASE[name] for name in ("trainer", "data")},
    "method": "apd",
    "model": {
        **{name: BASE["model"][name] for name in ("target", "recipe", "optimization")},
        "sites": ["linear*"],
        "n_components": 4,
        "k": 0.9,
        "losses": {"stochastic": {"class_path": "Minimality"}},
    },
}
REQUIRED = {
    "ToyModelOfSuperposition": TARGET["init_args"],
    "ResidualMLP": {"n_features": 3},
    "LoadedWeights": {"path": "weights.safetensors"},
    "SparseFeatures": {"n_features": 3},
    "DatasetBatches": {"train": {"class_path": "tests.data.examples.Examples"}},
    "KeywordCall": {"inputs": ["x"]},
    "Unfused": {"network": TARGET},
    "SweptValues": {"values": {"model.seed": 1}},
    "MLP": {"widths": [3, 3]},
    "ClassifierTraining": {"train": {"class_path": "Digits"}},
    "ComponentImages": {"image_shape": [8, 8]},
    "TextTokens": {"sources": ["nowhere.txt"], "vocabulary": 300},
    "StreamedText": {"tokenizer": "nowhere", "sources": ["nowhere.txt"]},
    "TextSamples": {"prompts": ["once"]},
    "HuggingFaceModel": {"path": "nowhere"},
    "LanguageModelTraining": {
        "data": {"class_path": "TextTokens", "init_args": {"sources": ["nowhere.txt"], "vocabulary": 300}}
    },
}
SIGNED = {"seed", "embedding_seed", "value_min", "value_max", "values", "save_top_k"}
"""Numbers that may be negative (or, a swept value, anything plain); every other number below 0 is nonsense."""
ANY_SIZE = {"seed", "embedding_seed", "values"}
"""Whole numbers without a largest value."""
NOT_IN_A_CONFIG = {"DecomposedModel", "Grouping", "Loss", "SiteMask", "UsageError", "EvaluationCallback"}
NOT_IN_A_CONFIG |= {"ImportanceFunction", "SiteFunction", "TargetCall", "Site"}  # bases, of which a config names others
NOT_IN_A_CONFIG |= {"decompose", "default_recipe", "untuned_losses"}  # functions
NOT_IN_A_CONFIG |= {"Digits"}  # examples for a data module
# built by the command line; see below for the last two
NOT_IN_A_CONFIG |= {"AttributedModel", "PredictionWriter", "StochasticDecomposition", "AttributionDecomposition"}


class Case(NamedTuple):
    """A config, and words one of which the one line about it must hold."""

    name: str
    text: str
    words: tuple[str, ...]


class Home(NamedTuple):
    """Where the arguments of a class go: a class that a config names, or the model itself."""

    cls: type | None
    shown: type
    place: list[Any]
    base: dict[str, Any] = BASE


def _homes() -> Iterator[Home]:
    """Every public class with a place in a config; the models come last."""
    for cls, place in _named():
        needs = cls.needs if issubclass(cls, spd_lightning.Loss) else None
        yield Home(cls, cls, place, ATTRIBUTION_BASE if needs is spd_lightning.AttributedModel else BASE)
    yield Home(None, spd_lightning.StochasticDecomposition, ["model"])
    yield Home(None, spd_lightning.AttributionDecomposition, ["model"], ATTRIBUTION_BASE)


def _named() -> Iterator[tuple[type, list[Any]]]:
    """Every public class that a config can name, with where it goes."""
    dataclasses_of_ours = {"Optimization": "optimization", "Warmup": "warmup", "Speed": "speed", "Merging": "merging"}
    for package in (spd_lightning, callbacks):
        for name in sorted(set(package.__all__) - NOT_IN_A_CONFIG):
            cls = getattr(package, name)
            if name in dataclasses_of_ours:
                yield cls, ["model", dataclasses_of_ours[name]]
            elif package is callbacks:
                yield cls, ["trainer", "callbacks+"]
            elif issubclass(cls, spd_lightning.Loss):
                yield cls, ["model", "losses", "stochastic"]
            elif issubclass(cls, spd_lightning.SiteFunction):
                yield cls, ["model", "importance", "init_args", "function"]
            elif issubclass(cls, spd_lightning.ImportanceFunction):
                yield cls, ["model", "importance"]
            elif issubclass(cls, spd_lightning.TargetCall):
                yield cls, ["model", "call"]
            elif issubclass(cls, spd_lightning.targets.TargetRecipe):
                yield cls, ["model", "recipe"]
            else:
                yield cls, ["data"] if issubclass(cls, LightningDataModule) else ["model", "target"]


def _parameters(cls: type) -> dict[str, tuple[Any, bool]]:
    """Type, and whether it must be given, by name."""
    hints = typing.get_type_hints(cls if dataclasses.is_dataclass(cls) else cls.__init__)
    own = inspect.signature(cls).parameters
    built_by_the_model = getattr(cls, "given_by_caller", frozenset())
    return {
        name: (hints[name], parameter.default is parameter.empty)
        for name, parameter in own.items()
        if name not in built_by_the_model
    }


def _nonsense(hint: Any, name: str) -> list[str]:
    """YAML that no parameter of a type may be."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in inner if kind is not types.NoneType]
        found = [value for value in _nonsense(kinds[0], name) if value != "null"]
        if len(kinds) > 1:
            found = [value for value in found if value[0] in "[{"]
        return found if types.NoneType in inner else [*found, "null"]
    if origin is Literal:
        return ["other", "3", '"Ünïcödé ☃ \\u202e"', f'"{LONG}"', '".nan"', "[1]", "null", "true"]
    if hint is bool:
        return ["perhaps", "2", ".nan", "[true]", "null", '"\\e[2J"']
    if hint in (int, float):
        negative = [] if name in SIGNED else ["-1"]
        huge = [] if hint is float or name in ANY_SIZE else [GIGANTIC]
        own = ["1.5", "1.0e+400"] if hint is int else ["-.inf", "1.0e+400"]
        return ["many", "true", ".nan", ".inf", *own, *negative, *huge, "[1]", "{a: 1}", "null", '"３½"', f'"{LONG}"']
    if hint is str:
        return ["[1]", "{a: b}", "null"] + (['"a\\0b"', f'"{LONG}"'] if name == "path" else [])
    if origin is dict:
        few = [value for value in _nonsense(inner[1], name) if len(value) < 100]
        return [f"{{linear1: {value}}}" for value in few] + ["[1]", "5", "text", "{1: {2: 3}}"]
    if origin is tuple:
        few = [value for value in _nonsense(inner[0], name) if len(value) < 100]
        return [*(f"[{', '.join([value] * len(inner))}]" for value in few), "[]", "5", "text"]
    if origin in (collections.abc.Sequence, list):
        few = [value for value in _nonsense(inner[0], name) if len(value) < 100]
        return [f"[{value}]" for value in few] + ["5", "text", "{a: 1}", "null"]
    wrong = "{class_path: ToyModelOfSuperposition, init_args: {nonsense: 1}}"
    found = ["NoSuchClass", "{class_path: os.system}", "{class_path: builtins.dict}", wrong]
    if origin is collections.abc.Callable:
        return found  # of what is no name of a class, the parser tells the value alone
    return [*found, "[1]", "5"] + ([] if dataclasses.is_dataclass(hint) else ["{init_args: {}}"])


def _rendered(document: dict[str, Any], value: str) -> str:
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    assert text.count(PLACE) == 1
    return text.replace(f"'{PLACE}'", value).replace(PLACE, value)


def _with(home: Home, arguments: dict[str, Any]) -> dict[str, Any]:
    """The base config with a class of these arguments in its place."""
    document, cls = copy.deepcopy(home.base), home.cls
    *path, last = home.place
    parent = document
    for key in path:
        parent = parent[key]
    if cls is None or dataclasses.is_dataclass(cls):
        parent[last] = {**(parent.get(last) or {}), **arguments}
        return document
    described = {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": arguments}
    parent[last] = [described] if last.endswith("+") else described
    return document


def of_parameters() -> Iterator[Case]:
    """Each parameter of each public class: wrong in type or range, missing, duplicated."""
    for home in _homes():
        required = dict(REQUIRED.get(home.shown.__name__, {}))
        for name, (hint, needed) in _parameters(home.shown).items():
            title = f"{home.shown.__name__}.{name}"
            if home.cls is None and name == "seed":
                continue  # follows seed_everything
            for value in _nonsense(hint, name):
                document = _with(home, {**required, name: PLACE})
                yield Case(f"{title}={value[:40]}", _rendered(document, value), (name,))
            twice = _with(home, {**required, name: PLACE})
            lines = _rendered(twice, "@@VALUE@@").splitlines()
            at = next(index for index, line in enumerate(lines) if "@@VALUE@@" in line)
            again = lines[at].replace("- ", "  ")
            lines[at : at + 1] = [lines[at].replace("@@VALUE@@", "1"), again.replace("@@VALUE@@", "1")]
            yield Case(f"{title} given twice", "\n".join(lines), (name,))
            if needed and home.cls is not None:
                rest = {key: value for key, value in required.items() if key != name}
                yield Case(f"{title} missing", yaml.safe_dump(_with(home, rest)), (name,))


def of_unknown_keys() -> Iterator[Case]:
    """A key that nothing reads, at each level."""

    def levels(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if isinstance(node, dict):
            yield path
            for key, value in node.items():
                yield from levels(value, (*path, key))

    free = {("model", "sites"), ("model", "losses")}  # names chosen by the user
    for path in levels(BASE, ()):
        if path in free:
            continue
        for key in ("nonsense", "Ünïcödé", "class_paht", LONG):
            document = copy.deepcopy(BASE)
            node: Any = document
            for step in path:
                node = node[step]
            node[key] = 1
            name = f"{'.'.join(map(str, path)) or 'top'}: {key[:20]}"
            yield Case(f"unknown key at {name}", yaml.safe_dump(document, allow_unicode=True), (key[:20],))


def of_the_trainer() -> Iterator[Case]:
    """What is not ours but stands in every config: wrong types, and the ranges that Lightning itself refuses."""
    values = {
        "max_steps": ["-1", "0", "1.5", ".nan", "many", "[1]", "true"],
        "val_check_interval": ["many", "[1]", "2.5", ".nan", "0", "-1"],
        "accelerator": ["[1]", "cuda", "nonsense"],
        "devices": ["1.5", "0", "-5"],
        "strategy": ["nonsense", "[1]"],
        "precision": ["[1]"],
        "log_every_n_steps": ["many", "1.5", "-1"],
        "limit_val_batches": ["many", "1.5"],
        "logger": ["NoSuchLogger", "{class_path: os.system}", "5"],
        "callbacks": ["NoSuchCallback", "[{class_path: os.system}]", "5", "[{init_args: {}}]"],
        "gradient_clip_val": ["-1", ".nan", "many"],
        "accumulate_grad_batches": ["many", "1.5", "0", "-1"],
        "max_epochs": ["many", "1.5"],
        "num_sanity_val_steps": ["many", "1.5"],
    }
    for key, several in values.items():
        for value in several:
            document = copy.deepcopy(BASE)
            del document["trainer"]["callbacks+"]
            document["trainer"][key] = PLACE
            yield Case(f"trainer.{key}={value}", _rendered(document, value), (key, value.strip("[]{}")))
    for value in ("true", "-1", "1.5", "many", ".nan", "[1]", GIGANTIC):
        document = {"seed_everything": PLACE, **copy.deepcopy(BASE)}
        yield Case(f"seed_everything={value}", _rendered(document, value), ("seed",))


def spread(cases: list[Case], count: int) -> list[Case]:
    """So many of them, evenly spread."""
    return [cases[index * len(cases) // count] for index in range(count)]
