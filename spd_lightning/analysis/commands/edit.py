"""``python -m spd_lightning.analysis edit RUN_DIR --remove SITE:INDEX --output FOLDER``."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from spd_lightning.analysis.commands.shared import add_loading, aligned, on_device
from spd_lightning.analysis.edit_effect import EditReport, edit_report
from spd_lightning.analysis.edit_fitting import fitted_vectors
from spd_lightning.analysis.edit_saving import save_edited
from spd_lightning.analysis.editing import Edit, edited, resolved, shared_with
from spd_lightning.analysis.site_fitting import FittedVectors
from spd_lightning.artefact import load_model
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.files.progress import progress
from spd_lightning.files.whole import check_free
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel
from spd_lightning.runs.reopened import Reopened, reopened

COMPONENT, COMPONENTS = "SITE:INDEX", "SITE:INDEX[,INDEX...]"
Fitted = Mapping[str, FittedVectors]
SCALED, REDIRECTED = f"{COMPONENTS}=FACTOR", f"{COMPONENTS}={COMPONENT}"


def add_to(commands: Any) -> None:
    """Add the subcommand to a parser's subparsers."""
    parser = commands.add_parser("edit", help="remove, scale or redirect components in the weights, for good")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="run directory; nothing in it is changed")
    again = {"action": "append", "default": []}
    parser.add_argument("--remove", metavar=COMPONENTS, help="take components away; may be given again", **again)
    parser.add_argument("--scale", metavar=SCALED, help="multiply what they write; may be given again", **again)
    parser.add_argument(
        "--redirect", metavar=REDIRECTED, help="let them write where another one does; may be given again", **again
    )
    parser.add_argument(
        "--fit", type=int, metavar="BATCHES", help="first fit the components' vectors to so many training batches"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="new folder for the weights")
    parser.add_argument("--threshold", type=float, default=ALIVE_THRESHOLD, help="importance that counts (%(default)s)")
    parser.add_argument("--draws", type=int, default=5, help="random changes to compare with (%(default)s)")
    parser.add_argument("--no_report", action="store_true", help="only write the weights; needs no data")
    add_loading(parser, "where effects are measured")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Edit, measure, write, and say what was found."""
    check_free(options.output)
    if options.fit is not None:
        check_whole("--fit", options.fit, least=1)
    edits = [*_removed(options.remove), *_scaled(options.scale), *_redirected(options.redirect)]
    model = load_model(options.folder, options.import_classes)
    chosen = resolved(model, edits)  # what does not exist is refused before the data is looked for
    report = tokenizer = fitted = None
    if options.fit or not options.no_report:
        found = reopened(options.folder, options.import_classes, model)
        fitted = _fitted(found, chosen, options)
        report = None if options.no_report else _report(found, chosen, fitted, options)
        tokenizer = found.tokenizer
    save_edited(edited(model, chosen, fitted=fitted).cpu(), options.output, report, tokenizer)
    told = [*_told(model, chosen), *_told_fitted(fitted or {})]
    lines = [*told, *([] if report is None else table(report)), f"written to {options.output}"]
    sys.stdout.write("\n".join(lines) + "\n")


def _fitted(found: Reopened, edits: Iterable[Edit], options: argparse.Namespace) -> Fitted | None:
    if options.fit is None:
        return None
    batches = on_device(found.model, found.training(options.fit), options.device)
    return fitted_vectors(found.model, edits, progress("fit", batches, options.fit), options.threshold)


def _report(found: Reopened, edits: Iterable[Edit], fitted: Fitted | None, options: argparse.Namespace) -> EditReport:
    batches = on_device(found.model, found.batches, options.device)
    return edit_report(found.model, edits, batches, found.distance, options.threshold, options.draws, fitted=fitted)


def _removed(given: Iterable[str]) -> Iterator[Edit]:
    for text in given:
        yield from (Edit(site, number) for site, number in _components("--remove", text, COMPONENTS, text))


def _scaled(given: Iterable[str]) -> Iterator[Edit]:
    for text in given:
        which, _, factor = text.rpartition("=")
        chosen = _components("--scale", which, SCALED, text)
        try:
            value = float(factor)
        except ValueError:
            raise UsageError(f"--scale must be {SCALED}, for example linear1:3=0.5, got {text!r}") from None
        yield from (Edit(site, number, value) for site, number in chosen)


def _redirected(given: Iterable[str]) -> Iterator[Edit]:
    for text in given:
        which, _, towards = text.rpartition("=")
        chosen = _components("--redirect", which, REDIRECTED, text)
        other = _components("--redirect", towards, REDIRECTED, text)
        if len(other) != 1:
            raise UsageError(f"--redirect must name one component to write like, got {towards!r}")
        yield from (Edit(site, number, 1.0, other[0]) for site, number in chosen)


def _components(flag: str, which: str, form: str, text: str) -> list[tuple[str, int]]:
    """Sites and numbers in ``SITE:INDEX[,INDEX...]``; a site may have colons of its own, within brackets."""
    site, _, numbers = which.rpartition(":")
    if not site or not all(number.strip().isdecimal() for number in numbers.split(",")):
        raise UsageError(f"{flag} must be {form}, for example linear1:3, got {text!r}")
    return [(site, int(number)) for number in numbers.split(",")]


def _told(model: ComponentModel, chosen: Sequence[Edit]) -> Iterator[str]:
    """A line for every component that is edited, and for every parameter that is more than one thing."""
    for edit in chosen:
        name = f"{edit.site}:{edit.component}"
        if edit.towards is not None:
            yield f"{name} writes like {':'.join(map(str, edit.towards))}"
        else:
            yield f"{name} is scaled by {edit.factor:g}" if edit.factor else f"{name} is removed"
    for site in dict.fromkeys(edit.site for edit in chosen):
        shared = shared_with(model.target, model.components[site].site)
        if shared:
            yield f"{', '.join(shared)} are one matrix: the edit is in all of them"


def _told_fitted(fitted: Fitted) -> Iterator[str]:
    """A line for every component whose vectors were fitted."""
    for site, vectors in fitted.items():
        for number, share in zip(vectors.components, vectors.explained.tolist(), strict=True):
            yield f"the fitted vector of {site}:{number} reads {share:.1%} of what it should"


def table(report: EditReport) -> list[str]:
    """What a report says, in lines."""
    sizes = ", ".join(f"{name} {share:.1%}" for name, share in report.relative_size.items())
    lines = [
        f"the change is as large as this share of the matrix: {sizes}",
        f"an edited component is important (above {report.threshold:g}) at {report.share:.2%} of positions",
        *_rows(report, report.distance, "effect", "elsewhere"),
    ]
    if not report.edited.loss_effect.isnan().all() or not report.edited.loss_elsewhere.isnan().all():
        lines += _rows(report, "rise of cross entropy", "loss_effect", "loss_elsewhere")
    return lines


def _rows(report: EditReport, title: str, inside: str, outside: str) -> list[str]:
    outcomes = {"this edit": report.edited, **report.controls}
    rows = [(title, "where important", "elsewhere")]
    for name, outcome in outcomes.items():
        rows.append((name, _said(getattr(outcome, inside)), _said(getattr(outcome, outside))))
    return aligned(rows)


def _said(values: Tensor) -> str:
    if values.isnan().any():
        return "-"
    mean = f"{values.mean().item():.3g}"
    return mean if len(values) == 1 else f"{mean} ± {values.std(correction=0).item():.2g}"
