"""The page on one run."""

from collections.abc import Mapping, Sequence

from spd_lightning.files.whole import is_file
from spd_lightning.report import page, rows
from spd_lightning.report.notes import (
    COLUMN_WORDS,
    NEEDED,
    ablation_title,
    duration,
    measured_with,
    megabytes,
    plain,
    state_text,
)
from spd_lightning.report.pictures import MAX_PICTURES, Picture, pictures
from spd_lightning.report.reading import component_count, config_text, feature_count, mapping, run_name, with_floats
from spd_lightning.runs.analysis_files import CARDS, FOLDER
from spd_lightning.runs.findings import MAX_MASKED, MAX_UNMASKED, Finding
from spd_lightning.runs.record import RunRecord
from spd_lightning.runs.verdict import RULE, known_sites


def run_page(record: RunRecord) -> str:
    """A report on one run from what its directory holds.

    Args:
        record: the run; of one that is not finished the page says so and shows what there is.

    Returns:
        HTML, complete in itself.
    """
    record, name = with_floats(record), run_name(record.folder)
    body = [page.element("h1", name), headline(record)]
    if record.state == "finished":
        body += [_sites(record), _ablations(record), _task(record)]
    body += [_pictures(record), _analyses(record)]
    if record.state == "finished":
        body.append(_circumstances(record))
    config = config_text(record)
    if config:
        body.append(page.folded("The run's config", page.element("pre", config)))
    return page.document(name, *body, page.element("footer", "Made from the files of the run directory alone."))


def headline(record: RunRecord) -> page.Html:
    """What was found, and why it counts as that."""
    if record.state != "finished":
        return _box("other", state_text(record))
    notes = [page.element("p", note) for note in _other_version(record)]
    return page.joined([*map(_finding, record.findings), _recovery(record, notes)])


def _finding(finding: Finding) -> page.Html:
    advice = [page.element("p", "Next: ", finding.advice, ".")] if finding.advice else []
    measured = page.element("p", finding.measured, ".", class_="faint")
    return _box("good" if finding.good else "bad", finding.answer.capitalize(), measured, *advice)


def _recovery(record: RunRecord, notes: Sequence[str]) -> page.Html:
    known, reasons = known_sites(record.scores), rows.missing(record.scores)
    lost = rows.unrepresented(record.scores, known, feature_count(record))
    rule = page.element("p", "The rule: ", RULE, ".", class_="faint")
    notes = [*(page.element("p", note) for note in lost), *notes]
    if not known:
        return _box("other", rows.recovery(record.scores), *notes)
    if reasons:
        return _box("bad", "Not recovered", page.bullets(reasons), *notes, rule)
    return _box("good", rows.recovery(record.scores), *notes, rule)


def _box(kind: str, first: str, *rest: str) -> page.Html:
    return page.element("div", page.element("p", first), *rest, class_=f"verdict {kind}")


def _other_version(record: RunRecord) -> list[str]:
    other = record.other_version
    return [] if other is None else [f"The run was made by another version of this package, {plain(other)}."]


_NOT_SCORED = page.said("not scored")


def _sites(record: RunRecord) -> page.Html:
    scores, known = record.scores, known_sites(record.scores)
    lines = [
        _widened(rows.site_row(scores, site, component_count(record, site)), _found(scores, site, known=site in known))
        for site in rows.sites(scores)
    ]
    if not lines:
        return page.section("Sites", page.element("p", "No site was scored."))
    words = page.folded("What the columns mean", page.facts(COLUMN_WORDS, "words"))
    header, needed = _widened(rows.SITE_HEADER, "verdict"), _widened(NEEDED, "")
    said = [column for column in range(len(header)) if any(line[column] not in ("-", _NOT_SCORED) for line in lines)]
    header, needed, *lines = ([cells[column] for column in said] for cells in (header, needed, *lines))
    table = page.table("scores of each site", header, lines, needed=needed if any(needed) and known else ())
    return page.section("Sites", table, page.element("p", measured_with(record), class_="faint"), words)


def _widened(cells: Sequence[str], verdict: str) -> list[str]:
    """Cells with the verdict second, where a phone still shows it."""
    return [cells[0], verdict, *cells[1:]]


def _found(scores: Mapping[str, float], site: str, *, known: bool) -> page.Html:
    if not known:
        return _NOT_SCORED
    reasons = rows.missing(scores, site)
    return page.said(", ".join(reasons) or "recovered", "bad" if reasons else "good")


def _ablations(record: RunRecord) -> page.Html:
    settings = mapping(record.metrics, "settings")
    lines = [
        [ablation_title(name, words, settings), *distances, _limit(name)]
        for name, words, distances in rows.ablation_rows(record.scores)
    ]
    if not lines:
        return page.Html()
    kind = plain(settings.get("AblationCheck.distance", "distance"))
    table = page.table("ablation", ["masks", *_distance_header(kind), "needed"], lines)
    active = [score for name, score in record.scores.items() if name.startswith("l0/")]
    active = active[:1] if record.config.get("method") == "apd" else active  # a component is on in all sites at once
    at = f" At L0 {rows.number(sum(active), 2)} over all sites: either number alone is easy to make small."
    note = "Distance from the target's output on held-out data." + (at if active else "")
    return page.section("Ablation", table, page.element("p", note, class_="faint"))


def _distance_header(kind: str) -> list[str]:
    first, *shares = rows.DISTANCE_HEADER
    return [f"{first} of the output ({kind})", *shares]


def _limit(name: str) -> str:
    """The threshold on a distance, as a share of what ablating everything costs."""
    if name == "unmasked":
        return f"≤ {MAX_UNMASKED:.0%}"
    return f"≤ {MAX_MASKED:.0%}" if name in ("ci_masked", "rounded") or name.startswith("ladder") else ""


def _task(record: RunRecord) -> page.Html:
    lines = [list(row) for row in rows.task_rows(record.scores)]
    if not lines:
        return page.Html()
    note = "By the labels of held-out data, which training never sees."
    table = page.table("task", ["masks", *rows.TASK_HEADER], lines)
    return page.section("Task", table, page.element("p", note, class_="faint"))


def _pictures(record: RunRecord) -> page.Html:
    return page.section("Pictures", *_shown(*pictures(record), "The run directory holds no pictures."))


def _analyses(record: RunRecord) -> page.Html:
    """What was asked of the run since; nothing if nothing was."""
    link = page.element("a", "Cards of components and mechanisms", href=f"{FOLDER}/{CARDS}")
    cards = [page.element("p", link)] if is_file(record.folder / FOLDER / CARDS) else []
    budget = MAX_PICTURES - sum(len(picture.content) for picture in pictures(record)[0])
    return page.section("Analyses", *cards, *_shown(*pictures(record, budget, paths=record.analyses)))


def _shown(found: Sequence[Picture], left_out: Sequence[str], nothing: str = "") -> list[page.Html]:
    """Pictures, and what is said of those that are not there."""
    shown = [page.element("div", *(picture.html() for picture in found), class_="pictures")] if found else []
    said = left_out if found or left_out or not nothing else [nothing]
    return [*shown, *(page.element("p", note, class_="faint") for note in said)]


def _circumstances(record: RunRecord) -> page.Html:
    metrics = record.metrics
    versions = ", ".join(f"{name} {plain(version)}" for name, version in mapping(metrics, "versions").items())
    pairs = [
        ("seed", plain(metrics.get("seed"))),
        ("steps", plain(metrics.get("steps"))),
        ("wall time", duration(metrics.get("wall_time_s"))),
        ("peak memory", megabytes(metrics.get("peak_memory_mb"))),
        ("device", plain(metrics.get("device"))),
        ("machine", plain(metrics.get("machine"))),
        ("processes", plain(metrics.get("processes"))),
        ("versions", versions or "-"),
    ]
    every = [[name, repr(score)] for name, score in record.scores.items()]
    settings = [[name, page.said(plain(value))] for name, value in mapping(metrics, "settings").items()]
    folds = [page.folded("All scores", page.table("all scores", ["score", "value"], every))]
    if settings:
        folds.append(page.folded("Thresholds and budgets", page.table("settings", ["setting", "value"], settings)))
    return page.section("Circumstances", page.facts(pairs), *folds)
