"""A process of bounded memory that opens files with the real loaders."""

import json
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spd_lightning import (
    DecomposedModel,
    LoadedWeights,
    StochasticDecomposition,
    ToyModelOfSuperposition,
    UsageError,
)
from spd_lightning.artefact.export import load_decomposition
from spd_lightning.cli.inputs import read_inputs
from spd_lightning.cli.resuming import read_weights
from spd_lightning.report import read_run, run_page
from spd_lightning.runs.checkpoints import read_checkpoint
from spd_lightning.targets.cache import TargetCache

MEMORY = 2**30
"""Bytes that opening files may take beyond what the process has: with that, 2 GB are not reached."""
PATIENCE = 500
"""Seconds after which the process that opens files is ended."""
DESCRIPTION = {"network": "toy"}
FORMS = ["short", pytest.param("long", marks=pytest.mark.reliability)]


def network() -> ToyModelOfSuperposition:
    """The target that all good files belong to."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return ToyModelOfSuperposition(3, 3)


def module() -> StochasticDecomposition:
    """The decomposition that the good checkpoint is of."""
    return StochasticDecomposition(network(), {"linear*": 4})


def _checkpoint(path: Path) -> Any:
    checkpoint = read_checkpoint(path)
    module().check_checkpoint(checkpoint, same_target=True)
    return checkpoint["state_dict"]


def _weights(path: Path) -> Any:
    target = network()
    LoadedWeights(str(path)).prepare(target)
    return target.state_dict()


def _cached(folder: Path) -> Any:
    kept = TargetCache(folder).get(DESCRIPTION, lambda: network().state_dict())
    assert all(torch.equal(kept[name], tensor) for name, tensor in network().state_dict().items())
    return kept


def _artefact(folder: Path) -> Any:
    model: DecomposedModel = load_decomposition(folder)
    return model.state_dict()


def _report(folder: Path) -> Any:
    page = run_page(read_run(folder))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    return {}


LOADERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint": _checkpoint,
    "rebuilt": lambda path: StochasticDecomposition.load_from_checkpoint(path).state_dict(),
    "start": read_weights,
    "weights": _weights,
    "input": lambda path: {"x": read_inputs(path, network())},
    "artefact": _artefact,
    "cache": _cached,
    "report": _report,
}


def opened(loader: str, path: Path) -> str:
    """How opening a file ends: ``loaded``, ``refused: ...``, or something that must not be."""
    try:
        state = LOADERS[loader](path)
    except UsageError as error:
        line = str(error)
        return f"refused: {line}" if "\n" not in line and len(line) < 8000 else f"not one line: {line[:300]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]!r}"
    finite = all(tensor.isfinite().all() for tensor in state.values())
    return "loaded" if finite else "loaded what is not finite"


def open_all(loader: str, folder: Path) -> dict[str, Any]:
    """Open every file (or, of artefacts, caches and runs, folder) of a folder in one process with 1 GB to spare.

    Args:
        loader: names of :data:`LOADERS`, separated by commas.
        folder: what is opened; the process works in it, and it is on its import path.

    Returns:
        The ending by loader and name.

    Raises:
        AssertionError: if the process died.
    """
    answer = folder.parent / "endings.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork among threads: the child uses one and ends without tidying up
        child = os.fork()  # a new interpreter would import for longer than the test takes
    if not child:
        _be_the_child(loader, folder, answer)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the process that opened the files ended with status {status}"
    endings: dict[str, Any] = json.loads(answer.read_text())
    return endings


def _be_the_child(loader: str, folder: Path, answer: Path) -> None:
    code = 1
    try:
        signal.alarm(PATIENCE)
        torch.set_num_threads(1)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        paths = sorted(folder.iterdir())
        endings = {f"{one}: {path.name}": opened(one, path) for one in loader.split(",") for path in paths}
        answer.write_text(json.dumps(endings))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def fine(endings, *, refused=(), loaded=()) -> None:
    """Every ending is allowed, and some files ended as they must."""
    bad = {name: end for name, end in endings.items() if end != "loaded" and not end.startswith("refused: ")}
    assert not bad
    assert not [name for name in refused if endings[name] == "loaded"]
    assert not {name: endings[name] for name in loaded if endings[name] != "loaded"}
