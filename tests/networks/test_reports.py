"""Tables and reports of networks with parts and repeated calls."""

from pathlib import Path

import pytest

from spd_lightning import StochasticDecomposition
from spd_lightning.callbacks.report_table import report_table
from spd_lightning.report.reading import component_count
from spd_lightning.runs.record import RunRecord
from tests.networks.zoo import SharedLayer

SITES = {"h.*.attn.c_attn[q]": 4, "h.*.attn.c_attn[0:3]": 5, "mlp.*": 6, "layer[12]": 7}


@pytest.mark.parametrize(
    ("site", "count"),
    {
        "h.0.attn.c_attn[q]": 4,
        "h.11.attn.c_attn[0:3]": 5,
        "mlp.up": 6,
        "mlp.up@2": 6,
        "layer1": 7,
        "h.0.attn.c_attn[k]": None,
        "other": None,
    }.items(),
)
def test_components_of_a_site_are_found_in_the_config(site, count):
    record = RunRecord(Path("run"), "finished", config={"model": {"sites": SITES}})
    assert component_count(record, site) == count


def test_every_call_of_a_site_has_a_line():
    module = StochasticDecomposition(SharedLayer(), {"f": 9, "head": 4})
    scores = {f"{name}/f@{call}": float(call + 1) for name in ("l0", "alive") for call in range(3)}
    lines = report_table(scores, module, {}, []).splitlines()
    rows = {line.split()[0]: line.split()[1:4] for line in lines if line.startswith(("f@", "head"))}
    assert rows["f@1"] == ["9", "2", "2.00"]
    assert list(rows) == ["f@0", "f@1", "f@2", "head"]
