"""Sweeps: many variations of one generator training, for choices such as learning rate or architecture.

A sweep is smaller than a study: it has tokens already, draws no jets and fits no laws; it ends with a table.
Runs that are finished are skipped, one that was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from genscale.config import from_mapping, require
from genscale.files import write_csv
from genscale.records import RunRecord, points
from genscale.training.generator import GeneratorRun


@dataclass(frozen=True)
class Sweep:
    """What varies, and what does not.

    Attributes
    ----------
    run : dict
        What all runs share: keys of GeneratorRun.
    grids : list of dict
        Each maps dotted keys of ``run`` to lists of values and stands for their product; a run that is in two
        of them is trained once.
    """

    run: dict[str, Any] = field(default_factory=dict)
    grids: list[dict[str, list[Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        require(bool(self.grids), "grids: empty; give at least one mapping of keys to lists of values")


def variations(sweep: Sweep) -> Iterator[tuple[str, dict[str, Any], GeneratorRun]]:
    """Name, changed keys and configuration of each run, in the order of the grids, without repeats."""
    seen: dict[str, dict[str, Any]] = {}
    for grid in sweep.grids:
        for values in itertools.product(*grid.values()):
            changes = dict(zip(grid, values, strict=True))
            name = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in changes.items())
            if name in seen:
                require(
                    seen[name] == changes, f"grids: {seen[name]} and {changes} would both be called {name}"
                )
                continue
            require(
                changes not in seen.values(), f"grids: {changes} is there twice; give its keys in one order"
            )
            seen[name] = changes
            yield name, changes, _changed(sweep.run, changes, name)


def run_sweep(sweep: Sweep, out: Path, *, progress: bool = True) -> list[dict[str, Any]]:
    """Train every run into ``out/<name>`` and write ``out/points.csv``: a row per held-out evaluation.

    Returns
    -------
    list of dict
        Rows of :func:`genscale.records.points` with the changed keys as further columns.

    Raises
    ------
    InputError
        An unknown key or impossible value, before anything is trained.
    """
    from genscale.training.generator import GeneratorTask
    from genscale.training.loop import train

    runs = list(variations(sweep))
    rows = []
    for name, changes, run in tqdm(runs, unit="run", desc="sweep", disable=not progress):
        record = train(GeneratorTask(run), run.training, out / name, progress=False)
        rows += _rows(name, changes, record)
        write_csv(out / "points.csv", rows)
    return rows


def _rows(name: str, changes: dict[str, Any], record: RunRecord) -> list[dict[str, Any]]:
    return [{**row, **changes, "wall_s": record.wall_s} for row in points([(name, record)])]


def _changed(run: dict[str, Any], changes: dict[str, Any], name: str) -> GeneratorRun:
    values = copy.deepcopy(run)
    for key, value in changes.items():
        *folders, last = key.split(".")
        place = values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return from_mapping(GeneratorRun, values, name)
