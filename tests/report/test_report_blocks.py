"""What pages are made of."""

import pytest

from spd_lightning import UsageError
from spd_lightning.report import page
from spd_lightning.report.notes import duration
from spd_lightning.report.pictures import png_size
from spd_lightning.report.rows import missing, number, site_row, sites, unrepresented
from spd_lightning.report.writing import write_page
from tests.report.reader import Page


def test_text_is_escaped_once_and_markup_is_left_alone():
    assert page.text("""<a href="x">'&'</a>""") == "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;&#x27;&lt;/a&gt;"
    assert page.text(page.text("<&")) == "&lt;&amp;"
    assert page.element("p", "<", page.element("b", "&"), class_='"x') == '<p class="&quot;x">&lt;<b>&amp;</b></p>'


def test_what_no_page_can_hold_is_replaced():
    shown = page.text("a\x00\x1b\ud800\u202eb\n\tc")

    assert shown == "a\ufffd\ufffd\ufffd\ufffdb\n\tc"
    assert shown.encode() == "a\ufffd\ufffd\ufffd\ufffdb\n\tc".encode()


def test_a_document_is_whole_and_bans_everything_from_outside():
    source = page.document("A & <b>", page.section("Empty"), page.section("Full", "x > y"))

    read = Page(source)
    assert source.startswith(f"<!doctype html>\n{page.MARKER}\n")
    assert read.text == "A & <b> Full x > y"
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in read.attributes
    assert ("name", "viewport") in read.attributes


def test_a_table_has_header_threshold_rows_and_foot():
    table = page.table("label", ["a", "b"], [["<1>", "2"]], needed=["", "≥ 1"], foot=[["mean", "3"]])

    assert Page(table).tables == [[["a", "b"], ["", "≥ 1"], ["<1>", "2"], ["mean", "3"]]]


def test_the_size_of_a_picture_is_read_from_it(png):
    assert png_size(png(width=7, height=3)) == (7, 3)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: b"<script>alert(1)</script>", "is not a whole PNG"),
        (lambda whole: b"", "is not a whole PNG"),
        (lambda whole: whole[:-1], "is not a whole PNG"),
        (lambda whole: whole.replace(b"tEXt", b"tEXu"), "is not a whole PNG"),
        (lambda whole: b"GIF89a" + whole, "is not a whole PNG"),
    ],
)
def test_anything_but_a_whole_png_is_refused(damage, said, png):
    with pytest.raises(ValueError, match=said):
        png_size(damage(png()))


def test_a_picture_that_would_choke_a_browser_is_refused(png):
    with pytest.raises(ValueError, match="has 100000 x 100000 pixels"):
        png_size(png(width=100_000, height=100_000))
    with pytest.raises(ValueError, match="has 0 x 1 pixels"):
        png_size(png(width=0))


def test_a_row_shows_a_dash_for_every_missing_score():
    assert site_row({}, "a", None) == ["a", *["-"] * 9]
    scores = {"recovery/a/mechanisms": 5.0, "recovery/a/pearson": 0.98765, "recovery/a/dense_contradictions_0.2": 2.0}
    assert site_row(scores, "a", 9) == ["a", "9", "5", "-", "-", "-", "-", "0.988", "dense", "2 at 0.2"]


def test_sites_are_named_by_any_of_their_scores():
    scores = {
        "l0/b": 1.0,
        "ablation/zero": 0.0,
        "alive/b/c": 1.0,
        "recovery/a/x/mmcs": 1.0,
        "l0/a/x": 2.0,
        "alive": 1.0,
    }

    assert sites(scores) == ["b", "b/c", "a/x"]


@pytest.mark.parametrize("count", [float("nan"), float("inf")])
def test_a_count_that_is_no_number_is_no_recovery(count):
    scores = {"recovery/a/mechanisms": 1.0, "recovery/a/identity_contradictions_0.1": count}

    assert missing(scores) == missing(scores, "a") == ["a count of contradictions or a tolerance is not a number"]
    assert site_row(scores, "a", 1)[8:] == ["unreadable", "-"]


def test_lost_features_are_counted_where_the_total_is_known():
    scores = {"recovery/a/mechanisms": 4.0, "recovery/a/identity_contradictions_0.1": 0.0, "recovery/b/mechanisms": 1.0}

    said = "The target itself represents only 4 of its 5 features; the others are not scored."
    assert unrepresented(scores, ["a", "b"], 5) == [said]
    assert unrepresented(scores, ["a", "b"], 4) == unrepresented(scores, ["a", "b"], 0) == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(22.44, "22.4 s"), (172.6, "2 min 53 s"), (7384, "2 h 3 min"), (None, "-"), ("<b>", "<b>"), (float("nan"), "nan")],
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def test_numbers_that_are_none_stay_legible():
    assert [number(value) for value in (None, float("nan"), float("-inf"), 1.0)] == ["-", "nan", "-inf", "1.000"]


def test_only_a_report_is_ever_replaced(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, page.document("one"))
    write_page(path, page.document("two"))
    assert "two" in path.read_text()

    path.write_text("<!doctype html><p>mine")
    with pytest.raises(UsageError, match=r"page.html' exists and is not a report; choose another name or remove it"):
        write_page(path, page.document("three"))
    assert path.read_text() == "<!doctype html><p>mine"
    write_page(path, page.document("four"), ours=True)
    assert "four" in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"the report '.*file/page.html' cannot be written \(File exists\)"):
        write_page(tmp_path / "file" / "page.html", "")
    with pytest.raises(UsageError, match="exists and is not a report"):
        write_page(tmp_path, "")
