"""What repeated data are worth, and what other inputs change: runs that stop early on few unique jets."""

from __future__ import annotations

from collections.abc import Iterator

from eval.common.results import Estimate, Unavailable
from eval.scaling.repetition.figures import (
    early_stopped_losses,
    input_laws,
    phase_diagram,
    repetition_cost,
)
from eval.scaling.repetition.fit import RepeatedData
from eval.scaling.repetition.inputs import InputComparison
from genscale.pages import Picture, Section, Table
from genscale.study.report.words import sentence, verdict
from genscale.study.results.repetition import Repetition
from genscale.study.results.study import REPETITION_POINTS, TASKS, Study

REPETITION_FILE = "repetition.json"

#: Constants of the law of repeated data, as the report names them.
CONSTANTS = {"E": "L_inf", "B": "B_rep", "beta": "beta_rep"}


def section(study: Study) -> Section | None:
    """Repeated data and other inputs; None for a study that repeats no data."""
    tasks = study.repetitions
    if not tasks:
        return None
    parts = {
        TASKS[task]: {name: getattr(found, name) for name in ("threshold", "repeated", "inputs")}
        for task, found in tasks.items()
    }
    return Section(
        "Repeated data",
        found=[f"{task.capitalize()}: {line}" for task in tasks for line in _findings(tasks[task])],
        figures=[figure for task, found in tasks.items() for figure in _figures(task, found)],
        tables=[table for task, found in tasks.items() for table in _tables(task, found)],
        data={REPETITION_POINTS: None, REPETITION_FILE: parts},
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
        lines.append(f"Overfitting begins at N ~ U^lambda, with lambda = {e.text()}{doubt}.")
    if not isinstance(found.repeated, Unavailable):
        lines += _gain(found.repeated)
    elif not isinstance(found.threshold, Unavailable):  # otherwise for the same reason
        lines.append(sentence(found.repeated))
    if isinstance(found.inputs, Unavailable):
        lines.append(sentence(found.inputs))
    elif found.inputs is not None:
        slopes, floors = found.inputs.slopes, found.inputs.shared_floors
        lines.append(
            f"With different inputs, exponents {'agree' if slopes.p_value > 0.05 else 'differ'} (p = "
            f"{slopes.p_value:.2g}); floors at a common exponent {'agree' if floors.p_value > 0.05 else 'differ'} (p = "
            f"{floors.p_value:.2g})."
        )
    return lines


def _gain(r: RepeatedData) -> list[str]:
    shown = {CONSTANTS[key]: r.fit.params[key] for key in ("E", "beta")}
    text = ", ".join(f"{label} = {e.text()}" for label, e in shown.items())
    unknown = [label for label, e in shown.items() if not e.identified]
    lines = [
        f"Early-stopped losses above the threshold follow L_inf + B_rep/U^beta_rep with {text}"
        + (f"; not identified: {', '.join(unknown)}." if unknown else ".")
    ]
    if r.mean_cost is not None and r.mean_cost.identified:
        lines.append(
            f"Training on repeated data costs {r.mean_cost.text()} times the compute of the compute-optimal single "
            "pass that reaches the same loss."
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
        "Early-stopped held-out loss, and the number of epochs up to it. Errors are those of the held-out jets, which "
        "all runs share.",
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
        "L = L_inf + B_rep/U^beta_rep, fitted to the runs above the overfitting threshold whose loss had stopped "
        "falling before their end. omega is the factor by which a single pass needs more unique jets for the same "
        "loss; the cost is relative to the compute-optimal single pass.",
        known,
        [
            ("constant", lambda row: row[0]),
            ("value [68 %]", lambda row: row[1].text()),
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
        "Laws of the early-stopped loss with different inputs, L = L_inf + B/U^beta, each with its own and with a "
        "common beta, fitted to runs whose loss had stopped falling before their end. Tests of "
        f"{compared}. The other sections have {own}.",
        found.fits.items(),
        [
            ("inputs", lambda item: item[0]),
            ("L_inf [68 %]", lambda item: item[1].params["E"].text()),
            ("B [68 %]", lambda item: item[1].params["B"].text()),
            ("beta [68 %]", lambda item: item[1].params["beta"].text()),
            ("L_inf at common beta [68 %]", lambda item: found.floors_at_common_slope[item[0]].text()),
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
            "Runs on U unique jets, trained until the held-out loss stopped falling. Crosses are overfitted: they end "
            "above their lowest loss. Grey bars bracket the threshold at each U; the band is the 68 % interval of N ~ "
            "U^lambda.",
            phase_diagram(found.threshold, own.variable("N"), own.variable("U")),
        )
    if not isinstance(found.repeated, Unavailable):
        yield Picture(
            f"repetition-{task}",
            f"Repeated data beside a single pass: {task}",
            "Left: early-stopped losses against unique jets, with the fitted laws. Right: the factor by which a single "
            "pass needs more unique jets for the loss that repeated data reach; open markers are not identified.",
            early_stopped_losses(found.repeated),
        )
        if found.repeated.cost:
            yield Picture(
                f"repetition-cost-{task}",
                f"Compute of repeated data: {task}",
                "Compute of the cheapest overfitted run at each U, up to its lowest loss, relative to the "
                "compute-optimal single pass that reaches the same loss.",
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
