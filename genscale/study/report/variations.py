"""What the variations of a study came to: one table of all held-out losses, and the last of each run in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from genscale.files import write_csv
from genscale.records import RunRecord, points
from genscale.study.report.tables import Table
from genscale.study.variations import Variations

VARIATIONS_FILE: Final = "variations.csv"


def write_variations(folder: Path, variations: Variations) -> list[dict[str, Any]]:
    """Write ``variations.csv`` of the finished runs, and return its rows.

    Returns
    -------
    list of dict
        A row per held-out loss with the columns of :func:`genscale.records.points`, those of the varied keys, and
        the run's ``wall_s``.
    """
    rows = []
    for variation in variations.runs():
        record = RunRecord.load(folder / variation.cell)
        more = {**variation.changes, "wall_s": record.wall_s}
        rows += [{**row, **more} for row in points([(variation.cell, record)])]
    if rows:
        write_csv(folder / VARIATIONS_FILE, rows)
    return rows


def variation_tables(variations: Variations, rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table for each task that varies: the varied keys of each run and its last held-out loss."""
    last = {row["run"]: row for row in rows}
    tables = []
    for task in ("tokenizer", "generator", "tagger"):
        runs = [v for v in variations.runs() if v.task == task]
        if not runs:
            continue
        keys = list(dict.fromkeys(key for run in runs for key in run.changes))
        lines = []
        for run in runs:
            row = last[run.cell]
            error = f" ± {row['L_error']:.4f}" if row["L_error"] != "" else ""
            lines.append(
                [*(str(run.changes.get(key, "")) for key in keys), f"{row['N']:,}", f"{row['D']:,}", f"{row['step']:,}",
                 f"{row['L']:.4f}{error}", f"{row['wall_s']:.0f}"]
            )  # fmt: skip
        caption = (
            f"Variations of the {task}: the last held-out loss of each run, with its statistical error. What is left "
            f"empty is as the {task} stage says. All held-out losses are in {VARIATIONS_FILE}."
        )
        header = (*keys, "N", "D (jets)", "steps", "held-out loss", "seconds")
        tables.append(Table(caption, header, lines))
    return tables
