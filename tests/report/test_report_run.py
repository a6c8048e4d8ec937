"""The page on one run."""

import json
import os

import pytest

from spd_lightning.report import read_run, run_page
from spd_lightning.runs.record import read_record
from tests.report.reader import Page

HOSTILE = """</td><script>alert("1")</script>&amp;'"""


def _page(folder) -> Page:
    return Page(run_page(read_run(folder)))


def test_a_recovered_run_says_so_and_shows_every_score(finished):
    scores = json.loads((finished / "metrics.json").read_text())["scores"]

    read = _page(finished)

    assert read.text.startswith(
        "tiny/seed_0 tiny/seed_0 Faithful all components on 0.00% (at most 1%), importances as "
    )
    assert "Recovered: the known mechanisms of all 2 sites were found. The rule: no importance" in read.text
    assert read.table("score") == [[name, repr(score)] for name, score in scores.items()]
    assert len(scores) == 2 * (2 + 7) + 7 + 3


def test_sites_stand_beside_their_thresholds(finished, rewrite):
    rewrite(finished, {"recovery/linear1/pearson": 0.9951, "recovery/linear1/chance_mmcs": 0.7, "l0/linear1": 1.255})

    needed, first, second = _page(finished).table("site", "verdict", "C")

    assert needed == ["needed", "", "", "", "= mechanisms", "", "≥ 0.999", "0.97 to 1.03", "≥ 0.99", "", "0 at loosest"]
    cells = ["4", "3", "3", "1.25", "1.000 (0.700)", "1.000", "0.995", "identity", "0 at 0.1, 0 at 0.2"]
    assert first == ["linear1", "recovered", *cells]
    assert second[:5] == ["linear2", "recovered", "4", "3", "3"]


def test_every_reason_of_a_failure_is_named(finished, rewrite):
    rewrite(finished, {"recovery/linear1/mmcs": 0.9912, "alive/linear2": 5.0, "ablation/unmasked": 2e-5})

    read = _page(finished)

    assert "Not recovered linear1: MMCS 0.9912 linear2: 5 alive for 3 mechanisms unmasked error 2.0e-05" in read.text
    assert [row[1] for row in read.table("site")[1:]] == ["MMCS 0.9912", "5 alive for 3 mechanisms"]


def test_ablations_state_the_budget_they_were_measured_with(finished, rewrite):
    rewrite(
        finished,
        {
            "ablation/worst_case": 0.00321,
            "ablation/zero": 0.02,
            "ablation/constant": 0.01,
            "l0/linear1": 1.0,
            "l0/linear2": 0.5,
        },
    )

    read = _page(finished)

    table = read.table("masks", "distance of the output (mse)")
    assert [row[0] for row in table] == [
        "all masks one, no delta",
        "importances as masks",
        "importances rounded to 0 or 1 (at 0.1)",
        "stochastic masks",
        "worst case over a fresh adversary (3 steps of 0.1)",
        *(f"a fresh adversary after {steps} steps, one batch" for steps in (20, 80, 320)),
        "everything ablated",
        "the same output for every input",
    ]
    assert table[4][1:] == ["3.21e-03", "16.05%", "32.10%", ""]
    assert [row[-1] for row in table] == ["≤ 1%", "≤ 25%", "≤ 25%", "", "", "≤ 25%", "≤ 25%", "≤ 25%", "", ""]
    assert "At L0 1.50 over all sites" in read.text


def test_circumstances_and_config_are_there(finished, rewrite):
    rewrite(finished, seed=7, steps=1234, wall_time_s=605.0, peak_memory_mb=512.4, machine="toaster, 2 threads")

    text = _page(finished).text

    assert "seed 7 steps 1234 wall time 10 min 5 s peak memory 512 MB device cpu machine toaster, 2 threads" in text
    assert "torch 2." in text
    assert "seed_everything: 0" in text


def test_a_version_that_is_not_this_one_is_said(finished, rewrite):
    rewrite(finished, versions={"spd_lightning": "0.0.1"})

    assert "The run was made by another version of this package, 0.0.1." in _page(finished).text


def test_a_target_that_lost_features_is_said(finished, rewrite):
    lost = {f"{kind}/linear{site}": 2.0 for kind in ("alive",) for site in (1, 2)}
    rewrite(finished, lost | {f"recovery/linear{site}/mechanisms": 2.0 for site in (1, 2)})

    assert "The target itself represents only 2 of its 3 features" in _page(finished).text


def test_pictures_are_inside_with_captions_in_a_fixed_order(finished, png):
    for name in ("test_importance_spectrum", "test_component_vectors_a_b", "test_own", "val_importance_histogram"):
        (finished / "figures" / f"{name}.png").write_bytes(png(width=5, height=4))

    read = _page(finished)

    assert read.images[0]["alt"].startswith("Importance heatmap: linear1: 3 of 4 components; the strongest of each")
    assert [image["alt"].partition(":")[0] for image in read.images] == [
        "Importance heatmap",
        "Component vectors, a_b",
        "Ablation distances",
        "Single ablations",
        "Importance spectrum",
        "Own",
    ]
    assert (read.images[1]["width"], read.images[1]["height"]) == ("5", "4")
    assert "A cliff parts the components in use from the rest." in read.text


def test_whatever_is_no_picture_of_the_run_is_left_out_by_name(finished, png, tmp_path, monkeypatch):
    figures = finished / "figures"
    outside = tmp_path / "secret.png"
    outside.write_bytes(png())
    (figures / "test_a_linked.png").symlink_to(outside)
    (figures / "test_b_looped.png").symlink_to(figures / "test_b_looped.png")
    (figures / "test_c_gone.png").symlink_to(figures / "nothing.png")
    (figures / "test_d_<b>.png").write_bytes(b"<script>alert(1)</script>")
    (figures / "test_e_cut.png").write_bytes(png()[:-3])
    (figures / "test_f_folder.png").mkdir()
    os.mkfifo(figures / "test_g_pipe.png")  # reading it would wait for ever
    (figures / "test_h_large.png").write_bytes(png(padding=2**17))
    monkeypatch.setattr("spd_lightning.report.pictures.MAX_PICTURE", 2**17)

    read = _page(finished)

    names = [image["alt"].partition(":")[0] for image in read.images]
    assert names == ["Importance heatmap", "Ablation distances", "Single ablations"]
    for said in (
        "test_a_linked.png is left out: it is a link that leads out of the run directory.",
        "test_b_looped.png is left out: it ",
        "test_c_gone.png is left out: it is not a file.",
        "test_d_<b>.png is left out: it is not a whole PNG.",
        "test_e_cut.png is left out: it is not a whole PNG.",
        "test_f_folder.png is left out: it is not a file.",
        "test_g_pipe.png is left out: it is not a file.",
        "test_h_large.png is left out: it is larger than 0 MB.",
    ):
        assert said in read.text


SVG = (
    '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120.4 60">'
    "<metadata><dc:description>70 %% along a &lt;b&gt; path</dc:description></metadata>%s</svg>\n"
)


def test_pictures_of_analyses_and_a_link_to_the_cards_come_after_those_of_the_run(finished, png):
    before = len(_page(finished).images)
    for name in ("circuits/first.png", "graphs/example-8.svg", "graphs/notes.json"):
        (finished / "analysis" / name).parent.mkdir(parents=True, exist_ok=True)
        content = (SVG % "<script>alert(1)</script>").encode() if name.endswith("svg") else png(width=5, height=4)
        (finished / "analysis" / name).write_bytes(content)
    (finished / "analysis" / "cards.html").write_text("cards")

    read = _page(finished)

    graph, circuit = read.images[before:]
    assert graph["alt"] == "Graphs, example-8: 70 % along a <b> path"
    assert (graph["width"], graph["height"]) == ("120", "60")
    assert graph["src"].startswith("data:image/svg+xml;base64,")
    assert circuit["alt"] == "Circuits, first"
    assert "Cards of components and mechanisms" in read.text
    assert "What acts on an output" in read.text


@pytest.mark.parametrize("content", [SVG[:-8], SVG.replace("viewBox", "box"), "<!ENTITY a 'b'>" + SVG, "", "<p>no</p>"])
def test_what_is_no_whole_svg_is_left_out_by_name(content, finished):
    (finished / "analysis" / "graphs").mkdir(parents=True, exist_ok=True)
    (finished / "analysis" / "graphs" / "a.svg").write_text(content)

    assert "a.svg is left out: it is not a whole SVG." in _page(finished).text


def test_a_folder_of_figures_that_lies_elsewhere_is_not_followed(finished, tmp_path):
    (finished / "figures").rename(tmp_path / "figures")
    (finished / "figures").symlink_to(tmp_path / "figures")

    assert _page(finished).images == []


def test_a_run_without_pictures_says_so(finished):
    for path in (finished / "figures").iterdir():
        path.unlink()

    assert "The run directory holds no pictures." in _page(finished).text


def test_names_and_values_are_text_wherever_they_come_from(finished, rewrite, png):
    scores = {f"{kind}/{HOSTILE}": 1.0 for kind in ("l0", "alive")} | {f"recovery/{HOSTILE}/mechanisms": 1.0}
    scores |= {"recovery/linear1/mmcs": float("nan"), "ablation/zero": float("inf"), "l0/" + 99 * "long": 10**400}
    rewrite(finished, scores, machine=HOSTILE, device=["\ud800"], seed={"a": HOSTILE}, settings={HOSTILE: HOSTILE})
    rewrite(finished, versions={HOSTILE: HOSTILE, "spd_lightning": HOSTILE})
    (finished / "config.yaml").write_text(f"name: |\n  </pre>{HOSTILE}\n")
    folder = finished.parent / """<script>x<b> "&'"""
    finished.rename(folder)
    (folder / "figures" / "test_<img src=x>.png").write_bytes(png())

    read = _page(folder)

    shown = " ".join(HOSTILE.split())
    rows = {row[0]: row[1:] for row in read.table("site")}
    assert set(rows) == {"needed", "linear1", "linear2", HOSTILE, 99 * "long"}
    assert "inf" in rows[99 * "long"]
    assert any(cell.startswith("nan (") for cell in rows["linear1"])
    assert rows["linear1"][0] == "MMCS nan"
    assert read.text.count(shown) >= 10
    assert read.table("setting") == [[HOSTILE, HOSTILE]]
    assert read.text.startswith("tiny/" + folder.name)
    assert read.images[-1]["alt"] == "<img src=x>"


def test_missing_scores_and_odd_documents_leave_dashes(finished):
    (finished / "metrics.json").write_text(json.dumps({"scores": {"alive/a": 3}, "settings": [], "wall_time_s": True}))

    read = _page(finished)

    assert "The target states no mechanisms, so recovery was not scored." in read.text
    assert read.table("site") == [["a", "3"]]
    assert "The run does not state its thresholds." in read.text
    assert "versions -" in read.text


def test_scores_that_make_no_sense_are_no_recovery(finished, rewrite):
    rewrite(finished, {"recovery/linear1/identity_contradictions_x": 0.0})

    read = _page(finished)

    assert "Not recovered a count of contradictions or a tolerance is not a number" in read.text
    assert read.table("site")[1][1] == "a count of contradictions or a tolerance is not a number"


def test_a_run_that_is_not_finished_shows_what_there_is(finished):
    (finished / "metrics.json").unlink()

    read = _page(finished)

    assert "Not finished: there is a config but no final scores." in read.text
    assert len(read.images) == 3
    assert read.tables == []


@pytest.mark.parametrize("content", ["{", "[]", '{"scores": {"a": "high"}}', "[" * 100_000, "\xff"])
def test_a_damaged_run_says_what_is_wrong(content, finished):
    (finished / "metrics.json").write_text(content, encoding="latin-1")

    assert read_run(finished).state == "damaged"
    assert "Cannot be read: " in _page(finished).text


def test_an_empty_folder_was_not_started(tmp_path):
    assert "Nothing there: the run was not started." in _page(tmp_path).text


def test_scores_without_a_config_are_enough(finished):
    (finished / "config.yaml").unlink()
    assert read_record(finished).state == "damaged"

    read = _page(finished)

    assert "Recovered: the known mechanisms of all 2 sites were found." in read.text
    assert "The run's config" not in read.text
    assert [row[2:4] for row in read.table("site")[1:]] == [["3", "3"], ["3", "3"]]  # mechanisms, alive; no C


def test_scores_of_a_later_command_are_called_after_their_run(finished):
    later = finished / "test" / "version_0"
    later.mkdir(parents=True)
    (finished / "metrics.json").rename(later / "metrics.json")

    assert _page(later).text.startswith("tiny/seed_0/test/version_0")


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml"])
def test_files_that_lie_elsewhere_are_not_read(name, finished, tmp_path):
    (finished / name).rename(tmp_path / name)
    (finished / name).symlink_to(tmp_path / name)

    assert f"Cannot be read: {name} is a link that leads out of the run directory." in _page(finished).text


def test_a_record_that_was_read_by_others_shows_no_foreign_config(finished, tmp_path):
    (finished / "config.yaml").unlink()
    (tmp_path / "secret.yaml").write_text("password: hunter2")
    (finished / "config.yaml").symlink_to(tmp_path / "secret.yaml")

    assert "hunter2" not in run_page(read_record(finished))


def test_a_config_beyond_measure_is_cut(finished):
    (finished / "config.yaml").write_text(f"a: {'x' * 300_000}END")

    read = _page(finished)

    assert "(cut here)" in read.text
    assert "END" not in read.text
