"""What repeated data are worth, and what other inputs change: runs that stop early on few unique jets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.common.results import Estimate, Unavailable
from eval.scaling import Points, Threshold, overfitting_threshold, read_points
from eval.scaling.repetition.figures import (
    early_stopped_losses,
    input_laws,
    phase_diagram,
    repetition_cost,
)
from eval.scaling.repetition.fit import RepeatedData, repeated_data
from eval.scaling.repetition.inputs import InputComparison, compare_inputs
from genscale.data.features import resolve_features
from genscale.files import write_csv
from genscale.pages import Picture, Section, Table
from genscale.records import RunRecord, early_stopped_points
from genscale.study.config import StudyConfig
from genscale.study.report.fits import task_laws
from genscale.study.report.study import TASKS, Study, attempt, interval, once, sentence, verdict

POINTS_FILE = "repetition.csv"
REPETITION_FILE = "repetition.json"

#: Constants of the law of repeated data, as the report names them.
CONSTANTS = {"E": "L_inf", "B": "B_rep", "beta": "beta_rep"}


@dataclass(frozen=True)
class Repetition:
    """Early-stopped runs on repeated data; a result that they do not allow is `Unavailable`.

    Attributes
    ----------
    own_inputs : str
        What the models of the other sections see, for taggers as ``inputs_name`` says it.
    points : dict of Points
        By inputs: N, U, early-stopped L and the compute up to it.
    threshold : Threshold
        Where overfitting begins.
    repeated : RepeatedData
        Law of the runs above the threshold that stopped early, beside that of the single epoch.
    inputs : InputComparison or None
        None where the study compares no inputs.
    """

    own_inputs: str
    points: Mapping[str, Points]
    threshold: Threshold | Unavailable
    repeated: RepeatedData | Unavailable
    inputs: InputComparison | Unavailable | None


@once
def repetitions(study: Study) -> dict[str, Repetition]:
    """Write ``repetition.csv`` and fit the laws of repeated data of each task, ``generation`` and ``tagging``."""
    records = {run: r for run, r in study.records.items() if run.startswith(("repetition/", "inputs/"))}
    if not records:
        return {}
    write_csv(study.folder / POINTS_FILE, early_stopped_points(records.items()))
    return {
        task: _repetition(study, task, {run: r for run, r in records.items() if r.task == kind})
        for task, kind in TASKS.items()
        if any(r.task == kind for r in records.values())
    }


def _repetition(study: Study, task: str, records: Mapping[str, RunRecord]) -> Repetition:
    table = replace(read_points(study.folder / POINTS_FILE, where={"task": TASKS[task]}), source=POINTS_FILE)
    columns = [run.rsplit("/", 1)[0] for run in records]
    names = _inputs(study.config) if task == "tagging" else {"repetition": "tokens"}
    points = {name: table.select([c == column for c in columns]) for column, name in names.items()}
    own = points[names["repetition"]]
    evaluations = [record.evaluations for run, record in records.items() if run.startswith("repetition/")]
    curves = [[e.metrics["loss"] for e in run] for run in evaluations]
    steps = [[e.step for e in run] for run in evaluations]
    n, u = own.variable("N"), own.variable("U")
    threshold = attempt(
        "no threshold", lambda: overfitting_threshold(n, u, curves, steps=steps, seed=study.config.fit.seed)
    )
    single = task_laws(study)[task].surface

    def law(threshold: Threshold) -> RepeatedData:
        chosen = threshold.above(n, u) & _stopped(own)
        # The compute-optimal path knows one k of C = k N D for all sizes; the runs are counted with it, too.
        compute = own.compute if single is None else single.flops_factor * n * own.variable("D")
        return repeated_data(replace(own, C=compute), chosen, single, **study.options)

    missing = "no law of repeated data"
    repeated: RepeatedData | Unavailable
    if isinstance(threshold, Unavailable):
        repeated = Unavailable(f"{missing}: {threshold}")
    else:
        repeated = attempt(missing, lambda: law(threshold))
    compared = _compare_inputs(points, study) if task == "tagging" else None
    return Repetition(names["repetition"], points, threshold, repeated, compared)


def inputs_name(features: str, max_particles: int) -> str:
    """Say what a tagger sees as the literature does: "21 features, 128 particles"."""
    return f"{len(resolve_features(features))} features, {max_particles} particles"


def _inputs(config: StudyConfig) -> dict[str, str]:
    """Folder of early-stopped runs to what they see."""
    names = {"repetition": inputs_name(config.tagger.features, config.tagger.max_particles)}
    for key, other in config.inputs.others.items() if config.inputs.width else ():
        names[f"inputs/{key}"] = inputs_name(other.features, other.max_particles)
    return names


def _stopped(points: Points) -> NDArray[np.bool_]:
    """Runs whose loss stopped falling before they were cut off."""
    return np.array([value == "1" for value in points.extra["stopped_early"]], dtype=bool)


def _compare_inputs(points: Mapping[str, Points], study: Study) -> InputComparison | Unavailable | None:
    """Laws of one width with each of the inputs, of the runs whose loss had stopped falling."""
    width = study.config.inputs.width
    if not width:
        return None
    column = {
        name: part.select(_stopped(part) & [size == f"d{width}" for size in part.extra["size"]])
        for name, part in points.items()
    }
    few = {name: len(part) for name, part in column.items() if len(np.unique(part.variable("U"))) < 3}
    if few:
        counts = ", ".join(f"{n} with {name}" for name, n in few.items())
        return Unavailable(
            "inputs not compared: a law needs runs at three U whose loss stopped falling before they were cut off, "
            f"found {counts}"
        )
    return attempt("inputs not compared", lambda: compare_inputs(column, **study.options))


def section(study: Study) -> Section | None:
    """Repeated data and other inputs; None for a study that repeats no data."""
    tasks = repetitions(study)
    if not tasks:
        return None
    parts = {
        TASKS[task]: {name: getattr(found, name) for name in ("threshold", "repeated", "inputs")}
        for task, found in tasks.items()
    }
    return Section(
        "Repeated data",
        found=[
            f"{task.capitalize()} on repeated jets. {line}"
            for task in tasks
            for line in _findings(tasks[task])
        ],
        figures=[figure for task, found in tasks.items() for figure in _figures(task, found)],
        tables=[table for task, found in tasks.items() for table in _tables(task, found)],
        data={POINTS_FILE: None, REPETITION_FILE: parts},
    )


def _tables(task: str, found: Repetition) -> list[Table]:
    tables = [_runs(task, found)]
    if not isinstance(found.repeated, Unavailable):
        tables.append(_constants(task, found, found.repeated))
    if isinstance(found.inputs, InputComparison):
        tables.append(_input_laws(found.inputs, found.own_inputs))
    return tables


# -- words ----------------------------------------------------------------------------------------------------


def _findings(found: Repetition) -> list[str]:
    lines = []
    if isinstance(found.threshold, Unavailable):
        lines.append(sentence(found.threshold))
    else:
        e = found.threshold.exponent
        doubt = "" if e.identified else f", not identified: {e.reason}"
        lines.append(f"Overfitting begins at N ~ U^lambda with lambda = {interval(e)}{doubt}.")
    if not isinstance(found.repeated, Unavailable):
        lines += _gain(found.repeated)
    elif not isinstance(found.threshold, Unavailable):  # otherwise for the same reason
        lines.append(sentence(found.repeated))
    if isinstance(found.inputs, Unavailable):
        lines.append(sentence(found.inputs))
    elif found.inputs is not None:
        slopes, floors = found.inputs.slopes, found.inputs.shared_floors
        lines.append(
            f"Inputs: exponents {'agree' if slopes.p_value > 0.05 else 'differ'} (p = {slopes.p_value:.2g}); floors at "
            f"a common exponent {'agree' if floors.p_value > 0.05 else 'differ'} (p = {floors.p_value:.2g})."
        )
    return lines


def _gain(r: RepeatedData) -> list[str]:
    shown = {CONSTANTS[key]: r.fit.params[key] for key in ("E", "beta")}
    text = ", ".join(f"{label} = {interval(e)}" for label, e in shown.items())
    unknown = [label for label, e in shown.items() if not e.identified]
    lines = [
        f"Early-stopped loss above the threshold: {text}"
        + (f"; not identified: {', '.join(unknown)}." if unknown else ".")
    ]
    if r.mean_cost is not None and r.mean_cost.identified:
        lines.append(
            f"Repetition costs {interval(r.mean_cost)} times the compute of the compute-optimal single epoch of equal "
            "loss."
        )
    return lines


# -- tables and figures ---------------------------------------------------------------------------------------


def _runs(task: str, found: Repetition) -> Table:
    def rows() -> Iterator[list[str]]:
        for inputs, points in found.points.items():
            n, u, d = (points.variable(name) for name in "NUD")
            for i, run in enumerate(points.extra["run"]):
                error = float(points.extra["L_error"][i])
                yield [
                    run, inputs, f"{n[i]:,.0f}", f"{u[i]:,.0f}", f"{d[i] / u[i]:.1f}",
                    f"{points.L[i]:.4f} ± {error:.4f}",
                ]  # fmt: skip

    return Table(
        f"Runs on repeated data: {task}",
        "The early-stopped loss on held-out jets, and the epochs until then. Errors are those of the held-out jets, "
        "which all runs share.",
        ("run", "inputs", "N", "unique jets", "epochs", "early-stopped loss"),
        list(rows()),
    )


def _constants(task: str, found: Repetition, r: RepeatedData) -> Table:
    known: list[tuple[str, Estimate]] = []
    if not isinstance(found.threshold, Unavailable):
        known.append(("lambda of N ~ U^lambda (overfitting threshold)", found.threshold.exponent))
    known += [(label, r.fit.params[key]) for key, label in CONSTANTS.items()]
    known.append(
        ("ratio of the fall of L per decade of N to that per decade of U, above the threshold", r.size_slope)
    )
    if r.beta_difference is not None:
        known.append(("beta_rep - beta", r.beta_difference))
    gains = {
        "omega (equal losses)": r.gain,
        "omega (eq. 5)": r.gain_equal_floors,
        "compute over compute-optimal": r.cost,
    }
    known += [(f"{name} at {u:,.0f} jets", e) for name, table in gains.items() for u, e in table.items()]
    if r.mean_cost is not None:
        known.append(("compute over compute-optimal, geometric mean", r.mean_cost))
    return Table.of(
        f"Constants of repeated data: {task}",
        "L = L_inf + B_rep/U^beta_rep of the runs above the overfitting threshold whose loss stopped falling before "
        "they were cut off. omega is how many times more unique jets a single epoch would need for the same loss; the "
        "cost is relative to the compute-optimal single epoch.",
        known,
        [
            ("constant", lambda row: row[0]),
            ("value [68 %]", lambda row: interval(row[1])),
            ("identified", lambda row: verdict(row[1])),
        ],
    )


def _input_laws(found: InputComparison, own: str) -> Table:
    tests = [("slopes", found.slopes), ("floors at the common slope", found.shared_floors)]
    compared = "; ".join(
        f"equal {name}: chi2 = {test.chi2:.1f} / {test.dof}, p = {test.p_value:.2g}" for name, test in tests
    )
    return Table.of(
        "Inputs",
        "Laws of the early-stopped loss by inputs, L = L_inf + B/U^beta, each free and with a common beta, of runs "
        f"whose loss stopped falling before they were cut off. Tests of {compared}. The other sections have {own}.",
        found.fits.items(),
        [
            ("inputs", lambda item: item[0]),
            ("L_inf [68 %]", lambda item: interval(item[1].params["E"])),
            ("B [68 %]", lambda item: interval(item[1].params["B"])),
            ("beta [68 %]", lambda item: interval(item[1].params["beta"])),
            ("L_inf at common beta [68 %]", lambda item: interval(found.floors_at_common_slope[item[0]])),
            ("beta identified", lambda item: verdict(item[1].params["beta"])),
        ],
    )


def _figures(task: str, found: Repetition) -> Iterator[Picture]:
    """Phase diagram, early-stopped losses and gain, cost, and the laws of other inputs."""
    own = found.points[found.own_inputs]
    if not isinstance(found.threshold, Unavailable):
        yield Picture(
            f"phase-diagram-{task}",
            f"Where repeated data are overfitted: {task}",
            "Runs on U unique jets, seen until the held-out loss stopped falling: crosses end above their lowest "
            "loss. Grey bars bracket the border at each U; the band is the 68 % interval of N ~ U^lambda.",
            phase_diagram(found.threshold, own.variable("N"), own.variable("U")),
        )
    if not isinstance(found.repeated, Unavailable):
        yield Picture(
            f"repetition-{task}",
            f"Repeated data beside a single epoch: {task}",
            "Left: early-stopped losses against unique jets, with the fitted laws. Right: how many times more "
            "unique jets a single epoch would need for the loss that repetition reaches; open markers are not "
            "identified.",
            early_stopped_losses(found.repeated),
        )
        if found.repeated.cost:
            yield Picture(
                f"repetition-cost-{task}",
                f"The price of repetition: {task}",
                "Compute of the cheapest overfitting run at each U, up to its early stop, relative to the "
                "compute-optimal single epoch of equal loss.",
                repetition_cost(found.repeated),
            )
    if isinstance(found.inputs, InputComparison):
        yield Picture(
            "inputs",
            "Other inputs: floor or slope?",
            "Early-stopped losses of one width with different inputs, and the floors and exponents of their laws; "
            "open markers are not identified.",
            input_laws(found.inputs),
        )
