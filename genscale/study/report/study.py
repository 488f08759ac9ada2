"""A finished study as its report sees it: configuration, training runs and points, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from eval.common.errors import InputError as EvalInputError
from eval.common.results import Estimate, Unavailable
from eval.scaling.points import Points, read_points
from genscale.config import load_config
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.files import write_csv
from genscale.records import RunRecord, points
from genscale.study.cells import Cell, study_cells
from genscale.study.config import StudyConfig

T = TypeVar("T")

POINTS_FILE = "points.csv"

#: Tasks of a study: the kind of their runs, and what their loss is a mean over.
TASKS = {"generation": "generator", "tagging": "tagger"}
UNIT = {"generator": "token", "tagger": "jet"}


def read_config(folder: Path) -> StudyConfig:
    """Read the resolved configuration of a study from the folder of its results.

    Parameters
    ----------
    folder : Path
        Folder of the study.

    Returns
    -------
    StudyConfig

    Raises
    ------
    InputError
        The folder holds no study, or one that this version cannot read; the message names the file.
    """
    file = folder / "study.yaml"
    try:
        return load_config(StudyConfig, file)
    except InputError as error:
        raise error if str(file) in str(error) else InputError(f"{file}: {error}") from error


@dataclass(frozen=True, eq=False)
class Study:
    """The folder of a study of which everything but the report is done.

    Attributes
    ----------
    folder : Path
    config : StudyConfig
    results : dict
        What functions marked with `once` have returned.
    """

    folder: Path
    config: StudyConfig
    results: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """Settings that all fits share."""
        return {"bootstrap": self.config.fit.bootstrap, "seed": self.config.fit.seed}

    @cached_property
    def done(self) -> list[Cell]:
        """The cells whose output is there."""
        return [cell for cell in study_cells(self.config) if cell.done(self.folder)]

    @cached_property
    def missing(self) -> list[Cell]:
        """The cells whose output is not there."""
        return [cell for cell in study_cells(self.config) if not cell.done(self.folder)]

    @cached_property
    def records(self) -> dict[str, RunRecord]:
        """Run id to record of every finished training but those of tokenizers, in the order of the study."""
        trained = [cell.id for cell in self.done if cell.job.kind in ("train_generator", "train_tagger")]
        return {run: RunRecord.load(self.folder / run) for run in trained}

    def runs(self, kind: str) -> dict[str, RunRecord]:
        """Single-epoch runs of ``generator`` or ``tagger``, the smallest models first."""
        chosen = [(run, r) for run, r in self.records.items() if run.startswith(f"{kind}/")]
        return dict(sorted(chosen, key=lambda item: (item[1].parameters["total"], item[1].seed)))

    def sizes(self, kind: str) -> list[Size]:
        """Single-epoch runs of ``generator`` or ``tagger`` by size, the smallest models first."""
        grouped: dict[str, dict[str, RunRecord]] = {}
        for run, record in self.runs(kind).items():
            grouped.setdefault(record.size, {})[run] = record
        return [Size(name, runs) for name, runs in grouped.items()]

    @cached_property
    def points_file(self) -> Path:
        """``points.csv``, written anew from the records: one row per evaluation of every single-epoch run."""
        single = {run: r for kind in TASKS.values() for run, r in self.runs(kind).items()}
        rows = points((run, self.records[run]) for run in self.records if run in single)
        write_csv(self.folder / POINTS_FILE, rows)
        return self.folder / POINTS_FILE

    def points(self, kind: str) -> Points:
        """Points of ``generator`` or ``tagger`` with at least ``fit.min_jets`` jets seen."""
        # Messages end in the report: they name the file, not where this study happens to lie.
        everything = replace(read_points(self.points_file, where={"task": kind}), source=POINTS_FILE)
        jets = everything.variable("D")
        return everything.select(jets >= min(self.config.fit.min_jets, jets.max()))

    def jets(self, split: str) -> JetStore:
        """The jets of a split, unverified: training has read them all."""
        folder = self.folder / self.config.jets.folder / split
        return JetStore.open(folder, verify=False)

    @property
    def tokens(self) -> Path:
        """Folder of the token stores."""
        return self.folder / self.config.tokens


@dataclass(frozen=True)
class Size:
    """All seeds of one model size.

    Attributes
    ----------
    name : str
    runs : dict
        Run id to record, one per seed.
    """

    name: str
    runs: dict[str, RunRecord]

    @property
    def first(self) -> RunRecord:
        """The record of the first seed, for what all seeds share."""
        return next(iter(self.runs.values()))

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.first.parameters["total"]

    @property
    def jets_seen(self) -> int:
        """Jets that each run has seen."""
        return self.first.jets_seen

    def mean(self, value: Callable[[str], float]) -> tuple[float, float | None]:
        """Mean over seeds of a function of the run id, and its standard deviation; None with one seed."""
        values = [value(run) for run in self.runs]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None

    @property
    def loss(self) -> float:
        """Mean held-out loss at the end of training."""
        return self.mean(lambda run: self.runs[run].final.metrics["loss"])[0]

    @property
    def spread(self) -> float | None:
        """Standard deviation of that loss over seeds; None with one seed."""
        return self.mean(lambda run: self.runs[run].final.metrics["loss"])[1]

    @property
    def error(self) -> float:
        """Standard error of the mean loss: that of the held-out jets, which all seeds share, and that of the seeds."""
        held_out = self.mean(lambda run: self.runs[run].final.metrics["loss_error"])[0]
        return float(np.hypot(held_out, (self.spread or 0.0) / np.sqrt(len(self.runs))))

    @property
    def text(self) -> str:
        """The mean loss with its error."""
        return f"{self.loss:.4f} ± {self.error:.4f}"


def once(measure: Callable[[Study], T]) -> Callable[[Study], T]:
    """Call a function of a study only once for each study, so that sections need not hand on their results."""

    @wraps(measure)
    def kept(study: Study) -> T:
        if measure not in study.results:
            study.results[measure] = measure(study)
        return study.results[measure]

    return kept


def attempt(what: str, measure: Callable[[], T]) -> T | Unavailable:
    """Return a result, or why the data of the study do not allow it; ``what`` opens that sentence."""
    try:
        return measure()
    except EvalInputError as error:
        return Unavailable(f"{what}: {error}")


def available(result: T | Unavailable | None) -> T | None:
    """Return the result if there is one."""
    return None if isinstance(result, Unavailable) else result


def sentence(text: object) -> str:
    """Reason or verdict as a whole sentence."""
    words = str(text)
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def interval(e: Estimate) -> str:
    """A value with its 68 % interval."""
    return f"{e.value:.4g}" + ("" if e.ci68 is None else f" [{e.ci68[0]:.3g}, {e.ci68[1]:.3g}]")


def verdict(e: Estimate) -> str:
    """Whether a constant may be quoted."""
    return "yes" if e.identified else "no: " + e.reason if e.identified is False else ""
