"""``python -m spd_lightning.analysis circuit RUN_DIR --text TEXT --next TOKEN``."""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from spd_lightning.analysis.circuit_files import FOLDER, NUMBERS, PICTURE, TENSORS, save_circuits
from spd_lightning.analysis.circuit_goal import LAST, Goal
from spd_lightning.analysis.circuit_search import CircuitSearch
from spd_lightning.analysis.circuits import WITH, Circuit, Outcome, PromptCircuits, prompt_circuits
from spd_lightning.analysis.commands.examples import one_token, picked, prompts, whole_numbers
from spd_lightning.analysis.commands.shared import add_loading, aligned, on_device, write_picture
from spd_lightning.analysis.harvest import TOKENS
from spd_lightning.analysis.result_files import beside
from spd_lightning.artefact import load_model
from spd_lightning.errors import UsageError
from spd_lightning.figures import circuit_maps
from spd_lightning.files.progress import progress
from spd_lightning.files.whole import check_free
from spd_lightning.model import ComponentModel
from spd_lightning.model.call import IGNORED
from spd_lightning.runs.reopened import Reopened, reopened

SHOWN, LONGEST_NAME = 24, 60
"""Nodes that are printed, and characters of a name that is made of a text."""
REGIMES = {
    "alone": "alone, all else off",
    "stochastic": "random masks",
    "attacked": "fresh adversary",
    "attacked_everywhere": "fresh adversary on everything",
    "ablated": "taken away from the target",
    "random": "as many drawn nodes, alone",
}
OTHERS = {"target": "the target", "all_on": "all components on", "nothing_on": "nothing on"}


def add_to(commands: Any) -> None:
    """Add the subcommand to a parser's subparsers."""
    default = CircuitSearch()
    parser = commands.add_parser("circuit", help="the components that one output needs, held against an adversary")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help=f"run directory; its {FOLDER}/ gets the files")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", action="append", help="a prompt; given again, several of as many tokens")
    what.add_argument("--example", metavar="N[,N...]", help="examples of the run's test data, by number")
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--next", action="append", metavar="TOKEN", help="token that is wanted; one, or one per row")
    wanted.add_argument("--class", dest="classes", metavar="N[,N...]", help="class, or number of a token, in its place")
    wanted.add_argument("--labels", action="store_true", help="the data's own labels; else the target's own output")
    parser.add_argument("--position", type=int, help="position of the output that counts (the last, or all)")
    parser.add_argument("--shared", action="store_true", help="one set of importances for all rows")
    parser.add_argument("--name", help="of the files (made of the text or the examples)")
    parser.add_argument("--steps", type=int, default=default.steps, help="updates of a search (%(default)s)")
    parser.add_argument("--lr", type=float, default=default.lr, help="learning rate (%(default)s)")
    parser.add_argument("--penalty", type=float, help="price of a node (0.1 nats, or 1%% of ablating everything)")
    parser.add_argument("--p", type=float, default=default.p, help="exponent of the penalty (%(default)s)")
    parser.add_argument(
        "--adversary_steps", type=int, default=default.adversary_steps, help="of the one in the search (%(default)s)"
    )
    parser.add_argument("--alive", type=float, default=default.alive, help="importance to take part (%(default)s)")
    parser.add_argument("--threshold", type=float, default=default.threshold, help="importance of a node (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="of masks and adversaries (%(default)s)")
    add_loading(parser, "where the network runs")
    parser.set_defaults(run=run)


class _Asked(NamedTuple):
    """A batch, what is wanted of it, labels of positions or rows, and all that as plain data."""

    batch: Any
    goal: Goal
    rows: list[str]
    row: str
    about: dict[str, Any]


def run(options: argparse.Namespace) -> None:
    """Search twice, judge both, write them, and say what was found."""
    path = options.folder / FOLDER / _name(options)
    for ending in (TENSORS, NUMBERS, PICTURE):
        check_free(beside(path, ending))
    search = _search(options)
    found = reopened(options.folder, options.import_classes, load_model(options.folder, options.import_classes))
    asked = _asked(options, found)
    circuits = _circuits(found.model, asked, search)
    save_circuits(path, circuits, found.model, asked.about)
    tables = {name: circuit.tables() for name, circuit in circuits.circuits.items()}
    write_picture(beside(path, PICTURE), circuit_maps(tables, asked.rows, asked.row, asked.about["title"]))
    lines = [*told(circuits, asked.rows), f"written to {path}{TENSORS}, {NUMBERS} and {PICTURE}"]
    sys.stdout.write("\n".join(lines) + "\n")


def _search(options: argparse.Namespace) -> CircuitSearch:
    names = ("steps", "lr", "penalty", "p", "adversary_steps", "alive", "threshold", "shared", "seed")
    return CircuitSearch(**{name: getattr(options, name) for name in names})


def _name(options: argparse.Namespace) -> str:
    if options.name is not None:
        if not re.fullmatch(r"[\w.-]*\w", options.name):
            raise UsageError(f"--name must be letters, digits, _, - and ., got {options.name!r}; name it otherwise")
        return str(options.name)
    words = [*(options.text or [f"example {options.example}"]), *(options.next or [])]
    words += [f"class {options.classes}"] if options.classes else ["labels"] if options.labels else []
    made = re.sub(r"\W+", "_", " ".join(words)).strip("_")[:LONGEST_NAME].rstrip("_")
    if not made:
        raise UsageError("--name must be given, since the text has no letters to name the files after")
    return made


def _asked(options: argparse.Namespace, found: Reopened) -> _Asked:
    """The batch, on the device, and the goal."""
    batch: Any
    rows, row, about = None, "position", {}
    if options.text is not None:
        batch, rows = prompts(options.text, found)
        about = {"text": options.text, "tokens": batch[TOKENS].tolist()}
    else:
        numbers = whole_numbers("--example", options.example)
        batch, about = picked(replace(found.batches, limit=None), numbers), {"examples": numbers}
    (batch,) = on_device(found.model, [batch], options.device)
    output = found.model.clean(batch).output
    goal, wanted = _goal(options, found, batch, output)
    if rows is None:
        rows, row = [str(number) for number in about["examples"]], "example"
        if output.dim() > 2:
            rows, row = [str(number) for number in range(output[0, ..., 0].numel())], "position"
    title = " | ".join([*(options.text or [f"example {options.example}"]), f"wanted: {wanted}"])
    return _Asked(batch, goal, rows, row, {**about, "wanted": wanted, "title": title})


def _goal(options: argparse.Namespace, found: Reopened, batch: Any, output: Tensor) -> tuple[Goal, str]:
    """What is wanted, and in words."""
    model, at = found.model, LAST if options.position is None else options.position
    if options.next is not None:
        tokens = [one_token(text, found.tokenizer) for text in options.next]
        return Goal.label(model, batch, tokens, at), ", ".join(map(repr, options.next))
    if options.classes is not None:
        numbers = whole_numbers("--class", options.classes)
        return Goal.label(model, batch, numbers, at), ", ".join(map(str, numbers))
    if options.labels:
        labels = _labels(model, batch, output, at)
        return Goal.label(model, batch, labels, at), ", ".join(map(str, labels.tolist()))
    at = at if options.text is not None else options.position
    return Goal.own_output(model, batch, found.distance, at), "the target's own output"


def _labels(model: ComponentModel, batch: Any, output: Tensor, at: int) -> Tensor:
    labels = model.call.fitting_labels(batch, output)
    if labels is None:
        raise UsageError("--labels: the data holds no labels that fit the output; give --class, or call's labels")
    flat = labels.reshape(len(labels), -1)
    if not -flat.shape[1] <= at < flat.shape[1] or bool((flat[:, at] == IGNORED).any()):
        raise UsageError(f"--labels: position {at} has no label in every row; give another --position")
    return flat[:, at]


def _circuits(model: ComponentModel, asked: _Asked, search: CircuitSearch) -> PromptCircuits:
    with progress("circuit", total=2 * search.steps) as bar:

        def after(name: str, loss: float, size: float) -> None:
            bar.set_postfix_str(f"{name}: objective {loss:.3f}, {size:.0f} nodes", refresh=False)
            bar.update()

        return prompt_circuits(model, asked.batch, asked.goal, search, after)


def told(found: PromptCircuits, rows: list[str]) -> Iterator[str]:
    """What was found, in lines."""
    search, goal = found.search, found.goal
    yield (
        f"{found.alive.float().mean():.4g} nodes could take part (importance above {search.alive:g}); those of a "
        f"circuit are above {search.threshold:g}"
    )
    unit = "squared error" if goal.distance == "mse" else "nats"
    header = (f"{unit} from what is wanted", *found.circuits)
    sizes = ("nodes", *(_sizes(circuit) for circuit in found.circuits.values()))
    table = [header, sizes]
    for key, words in REGIMES.items():
        table.append((words, *(_said(circuit.outcomes[key]) for circuit in found.circuits.values())))
    yield from aligned(table)
    yield ", ".join(f"{words} {_said(found.outcomes[key])}" for key, words in OTHERS.items())
    yield from _nodes(found.circuits[WITH], rows)


def _sizes(circuit: Circuit) -> str:
    sizes = circuit.sizes
    least, most = int(sizes.min()), int(sizes.max())
    return str(least) if least == most else f"{sizes.float().mean():.1f} ({least} to {most})"


def _said(outcome: Outcome) -> str:
    right = outcome.right.mean().item()
    return f"{outcome.distance.mean().item():.3g}" + ("" if right != right else f" ({right:.0%} right)")


def _nodes(circuit: Circuit, labels: list[str]) -> Iterator[str]:
    """Nodes by site call and position, where they are not too many to be read."""
    nodes, calls = circuit.nodes, list(circuit.importances)
    several = len(next(iter(circuit.importances.values()))) > 1
    columns = (column[:SHOWN].tolist() for column in nodes)
    for call, row, position, component, importance in zip(*columns, strict=True):
        label = f" {labels[position]!r}" if not several and position < len(labels) else ""
        where = f"row {row}, position {position}" if several else f"position {position}{label}"
        yield f"  {calls[call]}:{component} at {where}: {importance:.2f}"
    if len(nodes.rows) > SHOWN:
        yield f"  and {len(nodes.rows) - SHOWN} more"
