"""Circuits on disk: nodes as columns, numbers for people beside them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from spd_lightning.analysis.circuit_goal import Goal
from spd_lightning.analysis.circuit_search import CircuitSearch
from spd_lightning.analysis.circuits import Circuit, Nodes, Outcome, PromptCircuits
from spd_lightning.analysis.result_files import beside, number_or_none
from spd_lightning.errors import UsageError
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.files.tensors import read_safetensors
from spd_lightning.files.whole import check_free, is_file, written_whole
from spd_lightning.model import ComponentModel

FOLDER = Path("analysis") / "circuits"
FORMAT = 1
TENSORS, NUMBERS, PICTURE = ".safetensors", ".json", ".png"


def save_circuits(
    path: Path, found: PromptCircuits, model: ComponentModel, about: Mapping[str, Any] | None = None
) -> None:
    """Write circuits to ``path.safetensors`` and ``path.json``.

    Args:
        path: without an ending; both names must be free.
        found: the circuits.
        model: whose nodes they are.
        about: what they were asked for, as plain data; goes into the second file.

    Raises:
        UsageError: if a name is taken, or the disk refuses.
    """
    for ending in (TENSORS, NUMBERS):
        check_free(beside(path, ending))
    tensors = {"goal/wanted": found.goal.wanted, "goal/weights": found.goal.weights}
    for number, circuit in enumerate(found.circuits.values()):
        columns = {f"{number}/{name}": column for name, column in circuit.nodes._asdict().items()}
        tensors |= {**columns, f"{number}/history": circuit.history}
    with written_whole(beside(path, TENSORS)) as aside:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, aside)
    with written_whole(beside(path, NUMBERS)) as aside:
        aside.write_text(json.dumps(_numbers(found, model, about or {}), indent=1) + "\n")


def _numbers(found: PromptCircuits, model: ComponentModel, about: Mapping[str, Any]) -> dict[str, Any]:
    goal, labels = found.goal, found.goal.labels
    first = next(iter(found.circuits.values()))
    return {
        "format": FORMAT,
        "weights": fingerprint(model),
        "about": dict(about),
        "goal": {
            "distance": goal.distance,
            "position": goal.position,
            "labels": None if labels is None else labels.tolist(),
        },
        "search": asdict(found.search),
        "calls": {call: list(g.shape) for call, g in first.importances.items()},
        "alive": found.alive.tolist(),
        "outcomes": _as_json(found.outcomes),
        "circuits": {
            name: {"nodes": circuit.sizes.tolist(), "outcomes": _as_json(circuit.outcomes)}
            for name, circuit in found.circuits.items()
        },
    }


def _as_json(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    return {
        name: {
            "distance": list(map(number_or_none, outcome.distance.tolist())),
            "right": list(map(number_or_none, outcome.right.tolist())),
        }
        for name, outcome in outcomes.items()
    }


def read_circuits(path: Path, model: ComponentModel) -> PromptCircuits:
    """Read what :func:`save_circuits` wrote.

    Args:
        path: as it was given there.
        model: whose nodes they are.

    Raises:
        UsageError: if there is no such file, it is damaged, or it is of other weights.
    """
    numbers = beside(path, NUMBERS)
    if not is_file(numbers):
        raise UsageError(f"{str(numbers)!r} does not exist; python -m spd_lightning.analysis circuit makes one")
    tensors = read_safetensors(beside(path, TENSORS), "circuits")
    try:
        content = json.loads(numbers.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError("another format")
        found = _read(content, tensors)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, RecursionError):
        raise UsageError(f"{str(numbers)!r} is damaged, or no circuits that this version reads") from None
    if content["weights"] != fingerprint(model):
        raise UsageError(f"{str(numbers)!r} is of other weights than the model's; search anew")
    return found


def _read(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PromptCircuits:
    told, labels = content["goal"], content["goal"]["labels"]
    goal = Goal(
        tensors["goal/wanted"],
        told["distance"],
        told["position"],
        tensors["goal/weights"],
        None if labels is None else torch.tensor(labels),
    )
    circuits = {}
    for number, (name, one) in enumerate(content["circuits"].items()):
        nodes = Nodes(*(tensors[f"{number}/{column}"] for column in Nodes._fields))
        outcomes = _outcomes(one["outcomes"])
        circuits[name] = Circuit(_importances(content["calls"], nodes), tensors[f"{number}/history"], outcomes)
    return PromptCircuits(
        circuits,
        goal,
        CircuitSearch(**content["search"]),
        torch.tensor(content["alive"]),
        _outcomes(content["outcomes"]),
    )


def _importances(calls: Mapping[str, list[int]], nodes: Nodes) -> dict[str, Tensor]:
    found = {}
    for number, (call, shape) in enumerate(calls.items()):
        own = nodes.calls == number
        flat = nodes.importances.new_zeros(shape[0], math.prod(shape[1:-1]), shape[-1])
        flat[nodes.rows[own], nodes.positions[own], nodes.components[own]] = nodes.importances[own]
        found[call] = flat.reshape(shape)
    return found


def _outcomes(content: Mapping[str, Mapping[str, list[float | None]]]) -> dict[str, Outcome]:
    def column(values: list[float | None]) -> Tensor:
        return torch.tensor([math.nan if value is None else value for value in values])

    return {name: Outcome(column(one["distance"]), column(one["right"])) for name, one in content.items()}
