"""What the taggers of a study are worth in physics, what repeated data are worth, and what other inputs change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.errors import InputError as EvalInputError
from eval.scaling import FitResult, Points, Threshold, overfitting_threshold, read_points
from eval.scaling.repetition.fit import RepeatedData, repeated_data
from eval.scaling.repetition.inputs import InputComparison, compare_inputs
from eval.tagging.calibration import Calibration, calibrate
from eval.tagging.law import RejectionLaw, rejection_laws
from eval.tagging.prediction import (
    ExpectedLoss,
    Prediction,
    RocBand,
    expected_loss,
    predict_rejection,
    roc_law,
)
from eval.tagging.score import TaggerScore, score_tagger
from genscale.data.features import resolve_features
from genscale.files import write_csv
from genscale.inference.prediction import load_predictions
from genscale.records import RECORD_FILE, RunRecord, early_stopped_points
from genscale.study.cells import study_cells
from genscale.study.config import StudyConfig
from genscale.study.report.analysis import TaskLaws

REPETITION_FILE = "repetition.csv"

#: Class whose ROC curve is set against its predicted limit, if the study has it; else the first signal.
SHOWN_SIGNAL = "Hbb"


@dataclass(frozen=True)
class Physics:
    """Predictions of every single-epoch tagger on the test jets, and what they say together.

    Attributes
    ----------
    scores : dict
        Run id to loss, ROC curves and rejections; empty where the test jets do not allow any (``laws`` says why).
    calibration : dict of Calibration, or str
        The same for the largest model (its first seed): are its probabilities to be believed? Or why that was not
        measured.
    laws : dict of RejectionLaw, or str
        R(L) of each signal at its working point, over all runs; or why there are none.
    predictions : dict
        Signal to rejections expected at more data, and in the limit.
    bands : list of RocBand
        ROC curves of one signal at the largest D, ten times that, and in the limit.
    """

    scores: Mapping[str, TaggerScore]
    calibration: Mapping[str, Calibration] | str
    laws: Mapping[str, RejectionLaw] | str
    predictions: Mapping[str, Sequence[Prediction]]
    bands: Sequence[RocBand]

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {
            "scores": {run: score.to_dict() for run, score in self.scores.items()},
            "calibration": self.calibration
            if isinstance(self.calibration, str)
            else {run: c.to_dict() for run, c in self.calibration.items()},
            "laws": self.laws
            if isinstance(self.laws, str)
            else {k: v.to_dict() for k, v in self.laws.items()},
            "predictions": {name: [p.to_dict() for p in found] for name, found in self.predictions.items()},
            "roc": [band.to_dict() for band in self.bands],
        }


@dataclass(frozen=True)
class Repetition:
    """Early-stopped runs on repeated data.

    Attributes
    ----------
    own_inputs : str
        What the taggers of the other sections see, as ``inputs_name`` says it.
    points : dict of Points
        By inputs: N, U, early-stopped L and the compute up to it.
    threshold : Threshold or str
        Where overfitting begins, or why that cannot be told.
    repeated : RepeatedData or str
        Law of the runs above the threshold that stopped early beside the single epoch's.
    inputs : InputComparison, str or None
        None: the study compares no inputs.
    doubt : str
        Why omega and cost must not be believed, which rest on the single-epoch law; empty where it describes its
        points.
    """

    own_inputs: str
    points: Mapping[str, Points]
    threshold: Threshold | str
    repeated: RepeatedData | str
    inputs: InputComparison | str | None
    doubt: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON; a text stands where something could not be done."""
        parts = {"threshold": self.threshold, "repeated": self.repeated, "inputs": self.inputs}
        return {
            name: part if part is None or isinstance(part, str) else part.to_dict()
            for name, part in parts.items()
        }


def analyse_physics(folder: Path, config: StudyConfig, laws: TaskLaws) -> Physics | None:
    """Score the predictions of all single-epoch taggers; None for a study without taggers.

    Parameters
    ----------
    folder : Path
        The study's folder.
    config : StudyConfig
    laws : TaskLaws
        Of tagging: rejections are predicted where they expect a loss.
    """
    scores: dict[str, TaggerScore] = {}
    calibration: dict[str, Calibration] | str = {}
    files = {c.id: folder / c.id / c.done_file for c in study_cells(config) if c.work == "predict"}
    largest = max(config.tagger.widths)
    for cell, file in files.items():
        found = load_predictions(file)
        present = (found.probabilities, found.labels, found.classes)
        run = cell.replace("predictions/", "tagger/")
        try:
            scores[run] = score_tagger(*present, bootstrap=config.fit.bootstrap, seed=config.fit.seed)
        except EvalInputError as error:  # of the test jets, the same for all runs
            return Physics({}, {}, f"taggers not scored: {error}", {}, [])
        if run.startswith(f"tagger/d{largest}-") and not calibration:
            try:
                calibration = {run: calibrate(*present, seed=config.fit.seed)}
            except EvalInputError as error:
                calibration = f"not calibrated: {error}"
    try:
        found_laws = rejection_laws(list(scores.values()), seed=config.fit.seed)
    except EvalInputError as error:
        return Physics(scores, calibration, f"R(L) not fitted: {error}", {}, [])
    surface = laws.surface
    if surface is None:
        return Physics(scores, calibration, found_laws, {}, [])
    where = _wheres(surface, float(laws.points.variable("D").max()))
    predictions = {
        name: [predict_rejection(law, loss, seed=config.fit.seed) for loss in where]
        for name, law in found_laws.items()
    }
    signal = SHOWN_SIGNAL if SHOWN_SIGNAL in found_laws else next(iter(found_laws))
    curves = roc_law(list(scores.values()), signal, seed=config.fit.seed)
    return Physics(scores, calibration, found_laws, predictions, [curves.at(loss) for loss in where])


def _wheres(surface: FitResult, most_jets: float) -> list[ExpectedLoss]:
    """The largest D of the runs and ten times that, each at infinite N, and the limit of both."""
    return [
        expected_loss(surface, D=most_jets),
        expected_loss(surface, D=10 * most_jets),
        expected_loss(surface),
    ]


def analyse_repetition(folder: Path, config: StudyConfig, laws: TaskLaws) -> Repetition | None:
    """Write ``repetition.csv`` and fit the laws of repeated data; None for a study that repeats none."""
    cells = [c.id for c in study_cells(config) if c.id.startswith(("repetition/", "inputs/"))]
    records = {run: RunRecord.load(folder / run) for run in cells if (folder / run / RECORD_FILE).exists()}
    if not records:
        return None
    write_csv(folder / REPETITION_FILE, early_stopped_points(records.items()))
    table = replace(read_points(folder / REPETITION_FILE), source=REPETITION_FILE)
    names = {"repetition": inputs_name(config.tagger.features, config.tagger.max_particles)}
    for key, other in config.inputs.others.items() if config.inputs.width else ():
        names[f"inputs/{key}"] = inputs_name(other.features, other.max_particles)
    columns = [run.rsplit("/", 1)[0] for run in records]
    points = {name: table.select([c == column for c in columns]) for column, name in names.items()}
    options: dict[str, Any] = {"bootstrap": config.fit.bootstrap, "seed": config.fit.seed}
    own = points[names["repetition"]]
    curves = [
        [e.metrics["loss"] for e in record.evaluations]
        for run, record in records.items()
        if run.startswith("repetition/")
    ]
    steps = [
        [e.step for e in record.evaluations]
        for run, record in records.items()
        if run.startswith("repetition/")
    ]
    n, u = own.variable("N"), own.variable("U")
    try:
        threshold: Threshold | str = overfitting_threshold(n, u, curves, steps=steps, seed=config.fit.seed)
    except EvalInputError as error:
        threshold = f"no threshold: {error}"
    repeated: RepeatedData | str = f"no law of repeated data: {threshold}"
    if not isinstance(threshold, str):
        try:
            chosen = threshold.above(n, u) & _stopped(own)
            single = laws.surface
            # The compute-optimal path knows one k of C = k N D for all sizes; runs beside it are counted with it, too.
            compute = own.compute if single is None else single.flops_factor * n * own.variable("D")
            repeated = repeated_data(replace(own, C=compute), chosen, single, **options)
        except EvalInputError as error:
            repeated = f"no law of repeated data: {error}"
    return Repetition(
        names["repetition"],
        points,
        threshold,
        repeated,
        _compare_inputs(points, config, options),
    )


def inputs_name(features: str, max_particles: int) -> str:
    """Say what a tagger sees as the literature does: "21 features, 128 particles"."""
    return f"{len(resolve_features(features))} features, {max_particles} particles"


def _stopped(points: Points) -> NDArray[np.bool_]:
    """Runs whose loss stopped falling before they were cut off."""
    return np.array([value == "1" for value in points.extra["stopped_early"]], dtype=bool)


def _compare_inputs(
    points: Mapping[str, Points], config: StudyConfig, options: Mapping[str, Any]
) -> InputComparison | str | None:
    """Laws of one width with each of the inputs, of the runs whose loss had stopped falling."""
    if not config.inputs.width:
        return None
    column = {name: part.select(_stopped(part) & [s == f"d{config.inputs.width}" for s in part.extra["size"]])
              for name, part in points.items()}  # fmt: skip
    few = {name: len(part) for name, part in column.items() if len(np.unique(part.variable("U"))) < 3}
    if few:
        counts = ", ".join(f"{n} with {name}" for name, n in few.items())
        return (
            "inputs not compared: a law needs runs at three U whose loss stopped falling before they were cut off, "
            f"found {counts}"
        )
    try:
        return compare_inputs(column, **options)
    except EvalInputError as error:
        return f"inputs not compared: {error}"
