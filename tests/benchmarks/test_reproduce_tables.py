"""What the tables say about run directories, with numbers worked out by hand."""

import csv
import json
import shutil

import pytest
from PIL import Image

from benchmarks.reproduce.__main__ import main
from benchmarks.reproduce.document import by_system
from benchmarks.reproduce.options import Options
from benchmarks.reproduce.pictures import MAX_BYTES
from benchmarks.reproduce.results import spread
from benchmarks.reproduce.summary import summary
from tests.benchmarks.fabricated import CONFIG, make_system, residual_scores, scores_of, write_run


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs" / "reproduce"


@pytest.fixture
def tables(runs, capsys):
    """Write the tables of systems; returns the document, the rows of the CSV file and the page."""

    def write(*systems, code=0):
        arguments = ["--table-only", "--runs", str(runs)]
        assert main(arguments, {system.name: system for system in systems}) == code, capsys.readouterr().err
        with (runs / "results.csv").open(newline="") as file:
            return (runs / "results.md").read_text(), list(csv.DictReader(file)), (runs / "report.html").read_text()

    return write


def rows_of(document, heading):
    """Rows of the table below a header that starts so, as lists of cells."""
    lines = document.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    end = lines.index("", start)
    split = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[start:end]]
    return [dict(zip(split[0], cells, strict=True)) for cells in split[2:]]


def test_mean_and_deviation_over_seeds():
    assert spread([0.99, 1.01, 1.03]) == "1.010 ± 0.020"  # deviations -0.02, 0, 0.02: sqrt(0.0008 / 2)
    assert spread([0.99]) == "0.990 (one seed)"
    assert spread([]) == "-"


def test_keeps_what_it_said_of_systems_without_runs(runs, tmp_path):
    first, second = make_system(tmp_path), make_system(tmp_path, name="tms_40-10")
    systems = {system.name: system for system in (first, second)}
    arguments = ["--table-only", "--runs", str(runs), "--output", str(tmp_path / "docs")]
    write_run(runs / "tms_5-2", 0, scores_of(ml2r=0.9))
    write_run(runs / "tms_5-2", 1)
    write_run(runs / "tms_40-10", 0, scores_of())
    assert main(arguments, systems) == 0
    before = {name: (tmp_path / "docs" / name).read_text() for name in ("results.md", "results.csv")}

    shutil.rmtree(runs / "tms_5-2")
    assert main([*arguments, "--keep"], systems) == 0
    assert {name: (tmp_path / "docs" / name).read_text() for name in before} == before

    shutil.rmtree(runs / "tms_40-10")
    write_run(runs / "tms_40-10", 0, scores_of(ml2r=0.95))
    assert main([*arguments, "--keep"], systems) == 0
    document = (tmp_path / "docs" / "results.md").read_text()
    assert ["ML2R 0.9000" in document, "ML2R 0.9500" in document] == [True, True]
    assert main(arguments, systems) == 0
    assert "tms_5-2" not in (tmp_path / "docs" / "results.md").read_text()


def test_every_seed_with_its_verdict(runs, tables, tmp_path):
    write_run(runs / "tms_5-2", 0, scores_of())
    write_run(runs / "tms_5-2", 1, scores_of(alive=6.0, ml2r=0.9), wall_s=30.0)

    document, rows, _ = tables(make_system(tmp_path))

    found = rows_of(document, "seed")
    assert [row["verdict"] for row in found] == [
        "recovered",
        "not recovered: linear1: 6 alive for 5 mechanisms, ML2R 0.9000",
    ]
    assert found[0] | {"verdict": ""} == {
        "seed": "0",
        "steps": "100",
        "wall s": "20",
        "peak MB": "500",
        "unmasked": "1.0e-09",
        "ci masked": "2.0e-04",
        "worst case (20 x 0.1)": "3.0e-04",
        "zero": "1.5e-02",
        "verdict": "",
    }
    assert "1 of 2 seeds recovered" in document
    assert [(row["seed"], row["recovered"]) for row in rows] == [("0", "1"), ("1", "0")]
    assert (rows[1]["alive/linear1"], rows[1]["wall_s"], rows[1]["jobs"]) == ("6.0", "30.0", "2")
    assert rows[0]["setting/AblationCheck.adversary_steps"] == "20"


def test_every_site_and_the_means_beside_the_paper(runs, tables, tmp_path):
    write_run(runs / "tms_5-2", 0, scores_of(ml2r=0.98))
    write_run(runs / "tms_5-2", 1, scores_of(ml2r=1.0, mmcs=0.9995, contradictions=2.0))

    document, _, _ = tables(make_system(tmp_path))

    sites = rows_of(document, "site")
    assert sites[1] == {
        "site": "linear1",
        "seed": "1",
        "C": "40",
        "pattern": "identity",
        "mechanisms": "5",
        "alive": "5",
        "L0 above 0.1": "0.250",
        "contradictions at 0.1": "2",
        "contradictions at 0.2": "2",
        "MMCS (chance)": "0.99950 (0.995)",
        "ML2R": "1.0000",
        "ML2R of alive": "1.0000",
    }
    header = "| mean ± sd | alive | expected | MMCS | paper | ML2R | paper |"
    means = document[document.index(header) :].splitlines()[2]
    assert means == "| linear1 | 5.0 ± 0.0 | 5 | 1.000 ± 0.000 | 1.000 ± 0.000 | 0.990 ± 0.014 | 0.993 ± 0.002 |"


def test_a_residual_system_shows_correlations_and_no_directions(runs, tables, tmp_path):
    write_run(runs / "residual", 0, residual_scores())

    document, _, _ = tables(make_system(tmp_path, "residual", (0,)))

    reading, writing = rows_of(document, "site")
    assert (reading["Pearson r"], writing["Pearson r"]) == ("0.9995", "-")
    assert (writing["pattern"], writing["contradictions at 0.1"], writing["contradictions at 0.2"]) == (
        "dense",
        "1",
        "0",
    )
    assert "MMCS (chance)" not in reading
    means = rows_of(document, "mean ± sd")
    assert (means[0]["Pearson r"], means[0]["paper, all layers"]) == ("0.9995 (one seed)", "1.000")
    assert (means[1]["alive"], means[1]["expected"]) == ("50.0 (one seed)", "50")


def test_runs_that_cannot_be_used_are_named_and_left_alone(runs, tables, tmp_path):
    folder = runs / "tms_5-2"
    other = {**CONFIG, "data": {"class_path": "SparseFeatures", "init_args": {"batch_size": 32}}}
    write_run(folder, 0, scores_of())
    write_run(folder, 1, scores_of(), config=other)
    write_run(folder, 2, scores_of(), version="0.0.1")
    (write_run(folder, 3, scores_of()) / "metrics.json").write_text("{")
    write_run(folder, 4)
    (folder / "seed_4.log").write_text("Epoch 0:  4%| 4/100 [00:01<00:02]\nerror: no such thing | here\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    document, rows, page = tables(make_system(tmp_path))

    verdicts = [row["verdict"] for row in rows_of(document, "seed")]
    assert verdicts[0] == "recovered"
    assert "data.init_args.batch_size 32 in the run, 16 in the config" in verdicts[1]
    assert "made by version 0.0.1" in verdicts[2]
    assert "damaged (Expecting property name" in verdicts[3]
    assert all("move or remove" in verdict for verdict in verdicts[1:4])
    assert verdicts[4] == "not finished: error: no such thing \\| here"
    assert "1 of 5 seeds recovered" in document
    assert [row["recovered"] for row in rows] == ["1", "", "", "", ""]
    assert "0.990" not in document  # no number of a run that cannot be used
    assert rows_of(document, "mean ± sd")[0]["alive"] == "5.0 (one seed)"
    assert "seed_3" in document
    assert "Expecting property name" in page
    assert "made by version 0.0.1" in page
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_summary_counts_and_adds_up(runs, tables, tmp_path):
    for name, wall_s in (("a", 10.0), ("b", 400.0)):
        write_run(runs / name, 0, scores_of(), wall_s=wall_s)
        write_run(runs / name, 1, scores_of(alive=7.0), wall_s=wall_s + 20)
    write_run(runs / "a", 2)
    systems = [make_system(tmp_path, name) for name in "ab"]

    document, _, _ = tables(*systems)

    first, second = rows_of(document, "system")
    assert (first["recovered"], first["not finished"], first["steps"]) == ("1 of 2", "1", "100")
    assert (first["mean wall time"], second["mean wall time"]) == ("20 s", "7 min")  # (10 + 30) / 2, (400 + 420) / 2


def test_the_papers_settings_are_measured_or_estimated(runs, tables, tmp_path):
    write_run(runs / "tms_5-2", 0, scores_of(), wall_s=20.0)
    write_run(runs / "tms_40-10", 0, scores_of(), wall_s=40.0)
    write_run(runs / "paper_tms_5-2", 0, scores_of(), wall_s=100.0)
    ours = [make_system(tmp_path, name, twin=f"paper_{name}") for name in ("tms_5-2", "tms_40-10")]
    systems = {system.name: system for system in [*ours, make_system(tmp_path, "paper_tms_5-2", twin="tms_5-2")]}
    results = by_system(Options(tuple(systems.values()), runs=runs), systems, {})

    lines = "\n".join(summary(results, {"paper/tms_40-10": 20.0, "paper/tms_5-2": 1e9}))

    assert "| tms_5-2 | 1 of 1 | 0 | 100 | 20 s | 40000 | 100 s |" in lines
    assert "| tms_40-10 | 1 of 1 | 0 | 100 | 40 s | 40000 | ≈ 13 min |" in lines  # 40000 steps of 20 ms
    assert "(tms_5-2, tms_40-10): 60 s; with the paper's settings 15 min." in lines
    assert "≈: not run" in lines


def test_pictures_are_small_copies(runs, tables, tmp_path):
    run = write_run(runs / "tms_5-2", 0, scores_of())
    noise = Image.effect_noise((1400, 900), 80)
    noise.save(run / "figures" / "test_importance_heatmap.png")
    Image.new("RGB", (300, 200), "red").save(run / "figures" / "test_contribution_agreement.png")
    Image.new("RGB", (300, 200), "red").save(run / "figures" / "test_single_ablations.png")

    document, _, _ = tables(make_system(tmp_path))

    names = ["tms_5-2_contribution_agreement.png", "tms_5-2_importance_heatmap.png"]
    copies = sorted((runs / "images" / "results").iterdir())
    assert [path.name for path in copies] == names
    assert all(path.stat().st_size <= MAX_BYTES for path in copies)
    assert all(f"(images/results/{name})" in document for name in names)
    with Image.open(copies[0]) as picture:
        assert (picture.size, picture.mode) == ((300, 200), "P")
        assert picture.convert("RGB").getpixel((5, 5)) == (255, 0, 0)
    with Image.open(copies[1]) as picture:
        assert 200 <= picture.width < 1400


def test_a_sweep_of_the_importance_term_is_shown(runs, tables, tmp_path):
    write_run(runs / "tms_5-2", 0, scores_of())
    folder = tmp_path / "runs" / "sweeps" / "importance_tms_5-2"
    folder.mkdir(parents=True)
    key = "model.losses.importance.coefficient"
    header = f"run,{key},seed_everything,state,problem,recovered,shortfalls,alive/a"
    body = ["a,1e-2,0,finished,,0,too few,1", "b,1e-3,0,finished,,1,,5", "c,1e-3,1,started,stopped,,,"]
    (folder / "results.csv").write_text("\n".join([header, *body, "d,1e-3,2,finished,,1,,5"]) + "\n")
    (folder / "figures").mkdir()
    Image.new("RGB", (300, 200), "red").save(folder / "figures" / "sensitivity.png")

    document, _, _ = tables(make_system(tmp_path))

    assert "### Sensitivity of tms_5-2" in document
    assert rows_of(document, key) == [
        {key: "1e-3", "recovered": "2 of 2", "not finished": "1"},
        {key: "1e-2", "recovered": "0 of 1", "not finished": "0"},
    ]
    assert "(images/results/tms_5-2_sensitivity.png)" in document
    assert (runs / "images" / "results" / "tms_5-2_sensitivity.png").is_file()


def test_damaged_times_and_scores_that_make_no_sense_do_not_stop_the_tables(runs, tables, tmp_path):
    run = write_run(runs / "tms_5-2", 0, scores_of(contradictions=float("inf")))
    (run / "process.json").write_text("[3")
    metrics = json.loads((write_run(runs / "tms_5-2", 1, scores_of()) / "metrics.json").read_text())
    (runs / "tms_5-2" / "seed_1" / "metrics.json").write_text(json.dumps({**metrics, "settings": 3, "steps": None}))

    document, rows, _ = tables(make_system(tmp_path))

    assert [row["wall_s"] for row in rows] == ["", "20.0"]
    assert [row["recovered"] for row in rows] == ["0", "1"]
    assert "not a number" in document
