"""One cell of a study in a process of its own: ``python -m genscale.study.worker STUDY CELL``."""

from __future__ import annotations

import sys
from pathlib import Path

from genscale.cli import run_guarded
from genscale.study.work import run_cell

if __name__ == "__main__":
    study, cell = sys.argv[1:]
    sys.exit(run_guarded(lambda: run_cell(Path(study), cell)))
