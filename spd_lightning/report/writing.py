"""Pages as files, never in place of something that is not ours."""

import os
from pathlib import Path

from spd_lightning.errors import UsageError
from spd_lightning.files.whole import written_whole
from spd_lightning.report.page import MARKER

REPORT_NAME = "report.html"
"""The report of a run directory; the name is ours there."""


def write_page(path: Path, content: str, *, ours: bool = False) -> None:
    """Write a page, whole or not at all.

    Args:
        path: where.
        content: the page.
        ours: whether the name belongs to this package, so that whatever bears it may be replaced.

    Raises:
        UsageError: if the file exists and is not a report, or cannot be written.
    """
    try:
        if not ours and path.exists() and not _is_report(path):
            raise UsageError(f"--output {str(path)!r} exists and is not a report; choose another name or remove it")
        with written_whole(path) as aside:
            aside.write_text(content, encoding="utf-8")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UsageError(
            f"the report {str(path)!r} cannot be written ({reason}); write it elsewhere with "
            "python -m spd_lightning.report RUN_DIR --output FILE"
        ) from None


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARKER.encode() in file.read(200)
