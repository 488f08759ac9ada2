"""Cells of a study in a process of their own, one after another: ``python -m genscale.study.worker STUDY``.

Start-up costs seconds, as much as a small training, hence one process for many cells. Each line of standard input is a
cell's id and the file of its output, with a tab between; a line of standard output says that it is done. A cell that
fails ends the process with its exit code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from genscale.cli import run_guarded
from genscale.study.work import do, read_cells


def work(study: Path) -> None:
    """Do the cells that standard input names until it ends."""
    cells = read_cells(study)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        cell, log = line.rstrip("\n").split("\t")
        _redirect_output(Path(log))
        do(cells[cell], study)
        print("done", file=answers, flush=True)


def _redirect_output(log: Path) -> None:
    """Append what this process and its children print from now on to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


if __name__ == "__main__":
    sys.exit(run_guarded(lambda: work(Path(sys.argv[1]))))
