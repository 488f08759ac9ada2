"""The variations of a study: a table of all held-out losses, and the last one of each run in the report."""

from __future__ import annotations

from typing import Any, Final

from genscale.pages import Section, Table
from genscale.records import points
from genscale.study.results.study import Study
from genscale.study.variations import Variation

VARIATIONS_FILE: Final = "variations.csv"


def section(study: Study) -> Section | None:
    """Held-out losses of the varied runs; None for a study that varies none."""
    runs = {
        v.cell: (v, study.records[v.cell]) for v in study.config.variations.runs() if v.cell in study.records
    }
    if not runs:
        return None
    rows: list[dict[str, Any]] = []
    for cell, (variation, record) in runs.items():
        more = {**variation.changes, "wall_s": record.wall_s}
        rows += [{**row, **more} for row in points([(cell, record)])]
    last = {row["run"]: row for row in rows}
    by_task: dict[str, list[Variation]] = {}
    for variation, _ in runs.values():
        by_task.setdefault(variation.task, []).append(variation)
    tables = [
        _table(task, by_task[task], last) for task in ("tokenizer", "generator", "tagger") if task in by_task
    ]
    return Section(
        "Variations",
        tables=tables,
        data={VARIATIONS_FILE: rows},
        summary="\n\n".join("\n".join(table.text()) for table in tables).split("\n"),
    )


def _table(task: str, runs: list[Variation], last: dict[str, dict[str, Any]]) -> Table:
    """The varied keys of each run, and its last held-out loss."""
    keys = list(dict.fromkeys(key for run in runs for key in run.changes))
    lines = []
    for run in runs:
        row = last[run.cell]
        error = f" ± {row['L_error']:.4f}" if row["L_error"] != "" else ""
        changes = [str(run.changes.get(key, "")) for key in keys]
        cost = [f"{row['N']:,}", f"{row['D']:,}", f"{row['step']:,}"]
        lines.append([*changes, *cost, f"{row['L']:.4f}{error}", f"{row['wall_s']:.0f}"])
    return Table(
        f"Variations of the {task}",
        "The last held-out loss of each run, with its statistical error. A key that is left empty has the value of the "
        f"{task} stage. All held-out losses are in {VARIATIONS_FILE}.",
        (*keys, "N", "D (jets)", "steps", "held-out loss", "seconds"),
        lines,
    )
