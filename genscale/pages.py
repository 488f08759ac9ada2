"""Pages of results: sections with sentences, figures and tables, in one HTML file and as files next to it."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from matplotlib.figure import Figure

from eval.common.results import plain
from genscale.files import write_atomic, write_csv, write_json
from genscale.records import git_commit, package_versions

T = TypeVar("T")

#: Tables with more rows than this are folded.
LONG_TABLE = 15


class Mark(StrEnum):
    """A sign in front of a statement, which tells its kind without colour."""

    YES = "✓"
    NO = "✗"
    OPEN = "?"
    UNTESTED = "–"
    OUTSIDE = "○"


@dataclass(frozen=True)
class Table:
    """Rows of text, for the page, the terminal and a CSV file.

    Attributes
    ----------
    title : str
        Title of the table.
    caption : str
        Text below the title.
    header : sequence of str
        Names of the columns.
    rows : sequence of sequences of str
        Cells of each row.
    notes : sequence of str
        Text that is shown when the pointer rests on a row, one per row; empty for none.
    faint : sequence of bool
        Whether each row is shown in grey; empty for none.
    marks : sequence of Mark
        Mark of the first cell of each row; empty for none. A marked table is never folded.
    """

    title: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    faint: Sequence[bool] = ()
    marks: Sequence[Mark] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{self.title}: a row of {len(row)} cells under {len(self.header)} headings")

    @classmethod
    def of(
        cls, title: str, caption: str, items: Iterable[T], columns: Sequence[tuple[str, Callable[[T], str]]]
    ) -> Table:
        """Make a table with one row per item; each column is a pair of a heading and a function of the item."""
        header = [heading for heading, _ in columns]
        return cls(title, caption, header, [[cell(item) for _, cell in columns] for item in items])

    @property
    def is_text(self) -> list[bool]:
        """Whether each column holds words rather than numbers, which align at the right."""
        words = re.compile("[A-Za-z]{2}")
        return [any(words.search(row[i]) for row in self.rows) for i in range(len(self.header))]

    @property
    def folded(self) -> bool:
        """Whether the page shows the rows only on demand."""
        return len(self.rows) > LONG_TABLE and not self.marks

    @property
    def file(self) -> str:
        """Name of its CSV file."""
        return f"{_slug(self.title)}.csv"

    def text(self) -> list[str]:
        """Lines for a terminal, without title and caption."""
        lines = [self.header, *self.rows]
        widths = [max(len(row[i]) for row in lines) for i in range(len(self.header))]
        return [
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in lines
        ]

    def csv(self) -> str:
        """Text of a CSV file."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()


@dataclass(frozen=True)
class Picture:
    """A figure with its caption.

    Attributes
    ----------
    name : str
        Name of the file, without suffix.
    title : str
        Title of the figure.
    caption : str
        Text below the figure.
    image : Figure, bytes or Path
        A figure, the content of a PNG file, or the path of one.
    """

    name: str
    title: str
    caption: str
    image: Figure | bytes | Path

    @cached_property
    def png(self) -> bytes:
        """The picture as a PNG file."""
        if isinstance(self.image, Path):
            return self.image.read_bytes()
        return self.image if isinstance(self.image, bytes) else png(self.image)

    @property
    def file(self) -> str:
        """Name of its PNG file."""
        return f"{self.name}.png"

    @property
    def wide(self) -> bool:
        """Whether it is about twice as wide as high, by the header of the PNG file: narrow screens scroll it."""
        width, height = int.from_bytes(self.png[16:20]), int.from_bytes(self.png[20:24])
        return width > 1.9 * height

    @property
    def url(self) -> str:
        """The picture as a data URL, so that the page needs no other file."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """One topic of a page.

    Attributes
    ----------
    title : str
    found : sequence of str
        Sentences for the top of the page, each with its numbers.
    cautions : sequence of str
        Limitations that a reader should know, for the top of the page.
    figures : sequence of Picture
    tables : sequence of Table
    data : mapping of str to object
        Name of a file beside the page -> its contents: rows for ``.csv``, anything that `eval.common.results.plain`
        takes for ``.json``, None for a file that is already there.
    text : sequence of str
        Paragraphs below the title.
    listing : str
        Text that is shown line by line, such as a configuration.
    summary : sequence of str
        Lines for a terminal.
    """

    title: str
    found: Sequence[str] = ()
    cautions: Sequence[str] = ()
    figures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    text: Sequence[str] = ()
    listing: str = ""
    summary: Sequence[str] = ()

    @property
    def anchor(self) -> str:
        """Name of the section in links."""
        return _slug(self.title)

    @property
    def has_body(self) -> bool:
        """Whether it has more than sentences for the top of the page."""
        return any((self.figures, self.tables, self.text, self.listing))


@dataclass(frozen=True)
class Finding:
    """One sentence of an answer.

    Attributes
    ----------
    topic : str
        What it is about, in a word or two.
    mark : Mark
        Whether it is a yes, a no, or open.
    text : str
        The sentence, without the topic.
    """

    topic: str
    mark: Mark
    text: str


@dataclass(frozen=True)
class Number:
    """A number for the head of a page.

    Attributes
    ----------
    value : str
        The number with its error.
    label : str
        Unit and meaning.
    note : str
        What the error does not contain, or what to compare the number with; empty for nothing.
    """

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """The answer to the question of a page, for its head.

    Attributes
    ----------
    question : str
    findings : sequence of Finding
    numbers : sequence of Number
    figures : sequence of Picture
    """

    question: str
    findings: Sequence[Finding]
    numbers: Sequence[Number] = ()
    figures: Sequence[Picture] = ()


def write_page(
    path: Path,
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    *,
    figures: Path,
    tables: Path | None = None,
    answer: Answer | None = None,
) -> Path:
    """Write sections as one self-contained HTML page, and their figures, tables and data as files beside it.

    Parameters
    ----------
    path : Path
        The page. The data of the sections are written into its folder.
    title : str
        Title of the page.
    subtitle : str
        Line below the title.
    sections : sequence of Section
        Contents of the page.
    figures : Path
        Folder of the PNG files.
    tables : Path, optional
        Folder of CSV files of the tables; by default none are written.
    answer : Answer, optional
        Head of the page; what sections found then stands with them. By default it stands at the head.

    Returns
    -------
    Path
        The page.
    """
    for section in sections:
        for name, value in section.data.items():
            if value is not None:
                write = write_csv if name.endswith(".csv") else write_json
                write(path.parent / name, plain(value))
        if tables is not None:
            for table in section.tables:
                write_atomic(tables / table.file, table.csv())
    pictures = [picture for part in (answer, *sections) if part for picture in part.figures]
    for picture in pictures:
        write_atomic(figures / picture.file, picture.png)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genscale"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        answer=answer,
        figures=_link(figures, path),
        tables=tables and _link(tables, path),
        data=sorted({name for section in sections for name in section.data}),
        cautions=[line for section in sections for line in section.cautions],
        versions=package_versions(),
        commit=git_commit(),
    )
    write_atomic(path, page)
    return path


def _link(folder: Path, page: Path) -> str:
    """Link from a page to a folder, to be followed by the name of a file."""
    relative = Path(os.path.relpath(folder, page.parent)).as_posix()
    return "" if relative == "." else f"{relative}/"


def png(figure: Figure, dpi: int = 120) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _slug(title: str) -> str:
    """A title as the name of a file or an anchor."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")
