"""Pages: sections become one file that stands alone, and files beside it."""

import csv
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from eval.common.results import Unavailable
from genscale.pages import Answer, Finding, Mark, Number, Picture, Section, Table, write_page

SQUARES = Table.of("Squares", "Of numbers.", (1, 2, 12), [("n", str), ("n^2", lambda n: str(n * n))])


def test_a_table_is_made_of_pairs_of_heading_and_cell():
    assert list(SQUARES.header) == ["n", "n^2"]
    assert SQUARES.rows == [["1", "1"], ["2", "4"], ["12", "144"]]
    assert SQUARES.text() == ["n   n^2", "1     1", "2     4", "12  144"]


def test_a_row_that_does_not_fit_its_headings_is_refused():
    with pytest.raises(ValueError, match="Shifted: a row of 1 cells under 2 headings"):
        Table("Shifted", "", ("a", "b"), [["1", "2"], ["1"]])


@settings(deadline=None)
@given(st.lists(st.lists(st.text('a ,;"\n±', max_size=8), min_size=2, max_size=2), max_size=4))
def test_csv_keeps_every_cell(rows):
    table = Table("T", "", ("a", "b"), rows)
    assert list(csv.reader(io.StringIO(table.csv(), newline=""))) == [["a", "b"], *rows]


def test_a_page_holds_its_pictures_and_leaves_its_files(tmp_path):
    figure = Figure()
    figure.subplots().plot([1, 2])
    sections = [
        Section(
            "A & B",
            found=["1 < 2."],
            figures=[Picture("line", "Line", "A line.", figure), Picture("same", "Same", "", b"png")],
            tables=[SQUARES],
            data={
                "a.json": {"x": np.float64("nan"), "y": Unavailable("too few")},
                "b.csv": [{"u": 1}],
                "c.txt": None,
            },
        ),
        Section("Odd", cautions=["Beware."]),
    ]
    page = write_page(
        tmp_path / "page.html", "T", "s", sections, figures=tmp_path / "figures", tables=tmp_path / "tables"
    ).read_text()
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": "too few"}
    assert (tmp_path / "b.csv").read_text() == "u\n1\n"
    assert not (tmp_path / "c.txt").exists()
    assert (tmp_path / "tables" / "squares.csv").read_text() == SQUARES.csv()
    assert (tmp_path / "figures" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert "<li>1 &lt; 2.</li>" in page
    assert "<li>Beware.</li>" in page
    assert 'href="#a-b"' in page
    assert 'id="a-b"' in page
    assert 'href="#odd"' not in page  # nothing to see there
    assert not re.search(r'src="(?!data:)', page)


def test_long_tables_are_folded(tmp_path):
    long = Table("Long", "", ("n",), [[str(n)] for n in range(100)])
    page = write_page(tmp_path / "p.html", "T", "", [Section("S", tables=[SQUARES, long])], figures=tmp_path)
    text = page.read_text()
    assert text.count("<details>") == 1
    assert "Show 100 rows" in text


def test_marked_tables_are_never_folded_and_show_their_marks(tmp_path):
    marks = [Mark.YES, *[Mark.OPEN] * 19]
    table = Table("Marked", "", ("verdict",), [["told"] for _ in marks], marks=marks)
    page = write_page(
        tmp_path / "p.html", "T", "", [Section("S", tables=[table])], figures=tmp_path
    ).read_text()
    assert "<details>" not in page
    assert page.count(">✓</span>told") == 1
    assert page.count(">?</span>told") == 19


def test_an_answer_stands_first_and_what_was_found_with_its_topic(tmp_path):
    answer = Answer(
        "Is it?",
        [Finding("Size", Mark.NO, "it < is not.")],
        [Number("1 ± 2", "nats", "one seed")],
        [Picture("seen", "Seen", "", b"png")],
    )
    sections = [Section("Missing", found=["Not finished."]), Section("S", found=["Found."], tables=[SQUARES])]
    page = write_page(
        tmp_path / "p.html", "T", "", sections,
        figures=tmp_path / "figures", tables=tmp_path / "tables", answer=answer,
    ).read_text()  # fmt: skip
    order = [
        "Not finished.",
        "Is it?",
        "it &lt; is not.",
        "1 ± 2",
        "figures/seen.png",
        "Contents",
        'id="s"',
        "Found.",
    ]
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order)
    assert "What was found" not in page
    assert (tmp_path / "figures" / "seen.png").read_bytes() == b"png"
    assert 'href="tables/squares.csv"' in page
