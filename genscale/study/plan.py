"""All cells of a study with its report, and how far they are in the folder of its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from genscale.config import to_mapping
from genscale.errors import InputError
from genscale.study.cells import Cell, study_cells
from genscale.study.config import StudyConfig
from genscale.study.report.page import Report
from genscale.study.results.study import read_config

REPORT = "report"


def planned_cells(config: StudyConfig) -> list[Cell]:
    """Return all cells of a study, each after those that it needs; the last makes the report.

    Parameters
    ----------
    config : StudyConfig
        The study.

    Returns
    -------
    list of Cell

    Raises
    ------
    InputError
        The configuration of a training is invalid.
    """
    cells = study_cells(config)
    needed = {need for cell in cells for need in cell.needs}
    ends = tuple(cell.id for cell in cells if cell.id not in needed)
    return [*cells, Cell(REPORT, Report(config), ends)]


def read_cells(folder: Path) -> dict[str, Cell]:
    """Return the cells by id of a study whose resolved configuration is in its folder."""
    return {cell.id: cell for cell in planned_cells(read_config(folder))}


def run_cell(study: Path, cell_id: str) -> None:
    """Do the work of one cell of a study whose resolved configuration is in its folder.

    Parameters
    ----------
    study : Path
        Folder of the study.
    cell_id : str
        Name of the cell.

    Raises
    ------
    InputError
        The study has no such cell.
    """
    cells = read_cells(study)
    if cell_id not in cells:
        raise InputError(f"{study}: this study has no cell {cell_id}")
    cell = cells[cell_id]
    cell.job.run(study, cell.output(study))


def status(folder: Path) -> list[tuple[Cell, str]]:
    """Return each cell of the study in a folder, and whether it is ``done``, ``begun`` or ``waiting``."""

    def state(cell: Cell) -> str:
        output = cell.output(folder)
        if cell.done(folder):
            return "done"
        return (
            "begun" if output.exists() or output.with_name(f"{output.name}.partial").exists() else "waiting"
        )

    return [(cell, state(cell)) for cell in read_cells(folder).values()]


def new_since(folder: Path) -> str:
    """Say what a study that was finished by an earlier version lacks by the present one; empty if it lacks nothing.

    A key that its ``study.yaml`` does not have, because there was no such key, has its present default, which may ask
    for further cells.
    """
    if not (folder / REPORT / Report.done_file).exists():
        return ""
    config = read_config(folder)
    missing = [cell.id for cell in study_cells(config) if not cell.done(folder)]
    if not missing:
        return ""
    written: Any = OmegaConf.to_container(OmegaConf.load(folder / "study.yaml"))
    keys = _absent(to_mapping(config), written)
    why = "their outputs are not there"
    if keys:
        why = f"its study.yaml is older than {', '.join(keys)}, which have their present defaults"
    return (
        f"{folder}: was finished before, but lacks {len(missing)} cells ({', '.join(missing[:3])}"
        f"{', ...' if len(missing) > 3 else ''}), because {why}"
    )


def _absent(now: dict[str, Any], then: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of a configuration that an older one does not have."""
    keys = []
    for key, value in now.items():
        if key not in then:
            keys.append(f"{prefix}{key}")
        elif isinstance(value, dict) and isinstance(then[key], dict):
            keys += _absent(value, then[key], f"{prefix}{key}.")
    return keys
