"""Reports to read in a browser: one page per run, one per table of runs, made from run directories alone.

A page is one file. Its pictures are inside it, it runs nothing and loads nothing, and whatever a config, a target or a
folder is called appears in it as text.
"""

from spd_lightning.report.reading import read_run
from spd_lightning.report.run_page import run_page
from spd_lightning.report.table_page import TableRow, table_page
from spd_lightning.report.writing import REPORT_NAME, write_page

__all__ = ["REPORT_NAME", "TableRow", "read_run", "run_page", "table_page", "write_page"]
