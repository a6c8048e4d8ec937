"""What was found, as a page for a browser."""

import sys

from lightning.pytorch import Callback, Trainer

from spd_lightning.callbacks.final_report import FinalReport
from spd_lightning.callbacks.publishing import run_folder
from spd_lightning.errors import UsageError
from spd_lightning.methods import Decomposition
from spd_lightning.report import REPORT_NAME, read_run, run_page, write_page


class HtmlReport(Callback):
    """Writes ``report.html`` beside the ``metrics.json`` of a test or validation run; needs ``FinalReport``.

    The page is made at teardown, when every other callback has written what it has, in whatever order they are listed.
    """

    def __init__(self) -> None:
        self._scored = False

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there will be scores to report."""
        self._scored = False
        if stage != "predict" and not any(isinstance(c, FinalReport) for c in trainer.callbacks):  # type: ignore[attr-defined]
            raise UsageError(
                "HtmlReport needs the scores that FinalReport writes; add it to trainer.callbacks, or remove HtmlReport"
            )

    def on_test_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """There are scores now."""
        self._scored = True

    def on_validation_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """There are scores now, unless this is a validation inside training."""
        self._scored = trainer.state.fn == "validate"

    def teardown(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Write the page on rank zero."""
        folder = run_folder(trainer)
        if self._scored and folder is not None:
            write_page(folder / REPORT_NAME, run_page(read_run(folder)), ours=True)
            sys.stdout.write(f"A report to open in a browser is {folder / REPORT_NAME}\n")
        self._scored = False
