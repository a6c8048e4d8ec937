"""A recommendation as a config that ``fit`` takes."""

import inspect
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

from spd_lightning.files.describe import describe, plain
from spd_lightning.files.whole import check_free, written_whole
from spd_lightning.losses.base import TURNED
from spd_lightning.recommend.proposals import Recommendation
from spd_lightning.sweep.configs import Config

WIDTH = 120
"""Of a line, in characters."""
OF_THE_NETWORK = ("target", "recipe", "call", "kinds")
"""Keys of ``model`` that are taken over as they are."""


def write_config(path: Path, found: Recommendation, given: Config) -> None:
    """Write what was proposed beside the network and its data, with the grounds as comments.

    Args:
        path: a free name.
        found: the recommendation.
        given: the whole config that names network and data.

    Raises:
        UsageError: if the name is taken, or the file cannot be written.
    """
    check_free(path)
    with written_whole(path) as aside:
        aside.write_text(_comment(found, given) + yaml.safe_dump(config_of(found, given), **_STYLE), encoding="utf-8")


_STYLE: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": WIDTH, "allow_unicode": True}


def config_of(found: Recommendation, given: Config) -> Config:
    """The same as plain data.

    Args:
        found: the recommendation.
        given: the whole config that names network and data.
    """
    network: Config = {name: given["model"][name] for name in OF_THE_NETWORK if given["model"].get(name) is not None}
    data = dict(given["data"])
    if "batch_size" in data.get("init_args", {}):
        data["init_args"] = data["init_args"] | {"batch_size": found.batch_size}
    return {
        "seed_everything": given["seed_everything"],
        "trainer": {"max_steps": found.steps},
        "model": {**network, **settings(found)},
        "data": data,
    }


def settings(found: Recommendation) -> dict[str, Any]:
    """What is proposed for ``model``, as plain data: all keys but those of the network itself."""
    ties = {"ties": dict(found.ties)} if found.ties else {}
    terms = {name: _brief(loss) for name, loss in found.recipe["losses"].items()}
    built = {"importance": dict(found.described), "losses": terms}
    # in full, so that nothing of a config before it stays
    whole = {name: plain(value) for name, value in found.recipe.items() if name not in built}
    return {"sites": dict(found.sites), **ties, **built, **whole}


def _brief(obj: object) -> Config:
    """An object as plain data, without arguments that are as its class has them by default, but for what one turns."""
    described = describe(obj)
    defaults = {name: p.default for name, p in inspect.signature(type(obj)).parameters.items()}
    missing = inspect.Parameter.empty
    given = described["init_args"].items()
    own = {k: v for k, v in given if k in TURNED or defaults[k] is missing or plain(defaults[k]) != v}
    return {"class_path": described["class_path"], "init_args": own}


def _comment(found: Recommendation, given: Config) -> str:
    name = str(given["model"]["target"]["class_path"]).rpartition(".")[2]
    said = [f"How to take {name} apart, as python -m spd_lightning.recommend proposes it."]
    said += [f"{one.name}: {one.value}. {one.ground}" for one in found.proposals]
    said += [f"given up: {told}" for told in found.given_up]
    lines = [line for text in said for line in wrap(text, WIDTH - 2, subsequent_indent="  ")]
    return "".join(f"# {line}\n" for line in lines)
