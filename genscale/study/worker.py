"""A process that runs cells of a study one after another: ``python -m genscale.study.worker STUDY``.

Starting a process takes seconds, as long as a small training, and is therefore done once for many cells. Each line of
standard input has the id of a cell and the file of its output, separated by a tab; a line of standard output says that
the cell is done. A cell that fails ends the process with its exit code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from genscale.errors import run_guarded
from genscale.study.plan import read_cells


def work(study: Path) -> None:
    """Run the cells named on standard input until it ends."""
    cells = read_cells(study)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        name, log = line.rstrip("\n").split("\t")
        _redirect_output(Path(log))
        cells[name].job.run(study, cells[name].output(study))
        print("done", file=answers, flush=True)


def _redirect_output(log: Path) -> None:
    """Append the further output of this process and its children to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


if __name__ == "__main__":
    sys.exit(run_guarded(lambda: work(Path(sys.argv[1]))))
