"""How the report shows the physics of tagging, repeated data and inputs: tables, figures, sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.scaling.repetition.figures import (
    early_stopped_losses,
    input_laws,
    phase_diagram,
    repetition_cost,
)
from eval.tagging.figures import rejection_against_loss, reliability_curves, roc_limit
from eval.tagging.law import RejectionLaw
from eval.tagging.prediction import Prediction
from eval.tagging.score import SignalScore
from genscale.study.report.analysis import Analysis
from genscale.study.report.figures import Drawn
from genscale.study.report.tables import Table, interval, verdict
from genscale.study.report.tagging import Physics, Repetition

# -- physics --------------------------------------------------------------------------------------------------


def physics_tables(analysis: Analysis, physics: Physics) -> list[Table]:
    """Rejections of the best tagger of each size, constants of R(L), and predicted rejections."""
    return [_rejections(analysis, physics), _laws(physics), _predictions(physics)]


def _rejections(analysis: Analysis, physics: Physics) -> Table:
    first: dict[str, str] = {}
    for run, record in analysis.runs("tagger"):
        if run in physics.scores:
            first.setdefault(record.size, run)
    rows = []
    for run in first.values():
        score = physics.scores[run]
        for name, signal in score.signals.items():
            point = signal.working_point
            rows.append(
                [
                    run, f"{score.loss:.4f} ± {score.loss_error:.4f}", f"{score.accuracy:.3f}", name,
                    f"{100 * point.efficiency:g} %", _rejection(signal), f"{point.n_kept:,}",
                    f"{signal.area:.4f} ± {signal.area_error:.4f}", signal.note,
                ]
            )  # fmt: skip
    return Table(
        "Test jets: QCD rejection of every signal at its working point, for the first seed of every "
        "size. In brackets the "
        "68 % bootstrap interval over test jets. All runs are in tagging.json.",
        ("run", "test loss", "accuracy", "signal", "efficiency", "rejection [68 %]", "QCD kept", "AUC", ""),
        rows,
    )


def _rejection(signal: SignalScore) -> str:
    point = signal.working_point
    if point.n_kept == 0:
        return f"> {point.limit95:.0f} (95 %)"
    return f"{_three_digits(point.value)} [{', '.join(map(_three_digits, signal.ci68))}]"


def _three_digits(x: float) -> str:
    """1,250 for 1251.3."""
    return f"{float(f'{x:.3g}'):,g}"


def _laws(physics: Physics) -> Table:
    caption = (
        "Fits of R(L) = A exp(B L) + C over all taggers. chi2 and its probability are those of test "
        "statistics alone; "
        "scatter is what runs of equal loss differ by beyond it, in ln R."
    )
    header = ("signal", "A [68 %]", "B [68 %]", "C [68 %]", "chi2 / dof", "p", "scatter", "B identified")
    if isinstance(physics.laws, str):
        return Table(caption, header, [[physics.laws, *[""] * (len(header) - 1)]])
    rows = []
    for name, law in physics.laws.items():
        params = law.fit.params
        rows.append(
            [
                name, *(interval(params[key]) for key in ("A", "B", "C")), f"{law.chi2:.1f} / {law.dof}",
                f"{law.p_value:.2g}" if law.dof else "no spare runs", f"{law.scatter:.3f}", verdict(params["B"]),
            ]
        )  # fmt: skip
    return Table(caption, header, rows)


def _predictions(physics: Physics) -> Table:
    rows = [
        [name, p.where, interval(p.loss), interval(p.rejection), verdict(p.rejection), p.note]
        for name, found in physics.predictions.items()
        for p in found
    ]
    return Table(
        "Rejections that the laws L(N, D) and R(L) together expect of a tagger of infinite N, with the "
        "uncertainties of "
        "both. Far below the lowest loss measured this is an extrapolation of two laws.",
        ("signal", "at", "expected loss [68 %]", "expected rejection [68 %]", "identified", "note"),
        rows,
    )


def physics_figures(analysis: Analysis, physics: Physics) -> dict[str, Drawn]:
    """Figures 5 and 6 of Vigl et al., and the calibration."""
    figures: dict[str, Drawn] = {}
    if not isinstance(physics.laws, str):
        figures["rejection"] = Drawn(
            rejection_against_loss(physics.laws, physics.predictions),
            "Rejection against loss",
            "QCD rejection of every tagger against its loss on the same test jets, with the fitted "
            "R(L) = A exp(B L) + C "
            "and its 68 % band; diamonds are what the laws expect of infinite N at more data, open "
            "where not identified.",
        )
    if physics.bands:
        largest = [run for run, _ in analysis.runs("tagger")][-1]
        signal = physics.bands[0].name
        figures["roc"] = Drawn(
            roc_limit(list(physics.bands), {largest: physics.scores[largest].signals[signal]}),
            f"ROC curves of {signal}: measured, and predicted up to the limit",
            "QCD rejection against signal efficiency. R(L) is fitted at each efficiency over all "
            "taggers and evaluated at "
            "the losses that L(N, D) expects; dashed where that is not identified.",
        )
    if physics.calibration and not isinstance(physics.calibration, str):
        figures["calibration"] = Drawn(
            reliability_curves(physics.calibration),
            "Calibration",
            "Share of jets whose likeliest class is right, minus the probability that the tagger "
            "stated, in bins of equal "
            "counts. " + " ".join(f"{run}: {c.verdict}." for run, c in physics.calibration.items()),
        )
    return figures


def physics_findings(physics: Physics) -> list[str]:
    """Sentences for the head of the report."""
    if not physics.scores:
        return [f"Physics of tagging: {physics.laws}."]
    best = min(physics.scores.values(), key=lambda s: s.loss)
    lines = [
        "Best tagger on test jets: "
        f"accuracy {best.accuracy:.3f} ± {best.accuracy_error:.3f}, QCD rejection "
        + ", ".join(
            f"{name} {_rejection(s)} at {100 * s.working_point.efficiency:g} %"
            for name, s in best.signals.items()
        )
        + "."
    ]
    if isinstance(physics.calibration, str):
        lines.append(f"Calibration: {physics.calibration}.")
    else:
        lines += [f"Calibration of {run}: {c.verdict}." for run, c in physics.calibration.items()]
    if not isinstance(physics.laws, str):
        lines.append(_law_finding(physics.laws, physics.predictions))
    return lines


def _law_finding(laws: Mapping[str, RejectionLaw], predictions: Mapping[str, Sequence[Prediction]]) -> str:
    good = [name for name, law in laws.items() if law.p_value > 0.05]
    limits = [found[-1] for found in predictions.values()]
    known = [p for p in limits if p.rejection.identified]
    return (
        f"R(L) = A exp(B L) + C describes {len(good)} of {len(laws)} signals within test statistics (p > 0.05); the "
        f"rejection in the limit of data and size is identified for {len(known)} of {len(limits)}."
    )


# -- repeated data --------------------------------------------------------------------------------------------


def repetition_tables(repetition: Repetition) -> list[Table]:
    """Early-stopped losses, the constants of repeated data, and the laws of every choice of inputs."""
    rows = []
    for inputs, points in repetition.points.items():
        errors = points.extra["L_error"]
        for i, run in enumerate(points.extra["run"]):
            rows.append(
                [
                    run, inputs, f"{points.variable('N')[i]:,.0f}", f"{points.variable('U')[i]:,.0f}",
                    f"{points.variable('D')[i] / points.variable('U')[i]:.1f}",
                    f"{points.L[i]:.4f} ± {float(errors[i]):.4f}",
                ]
            )  # fmt: skip
    tables = [
        Table(
            "Runs on repeated data: the early-stopped loss on held-out jets, and the epochs until "
            "then. Errors are those of "
            "the held-out jets, which all runs share.",
            ("run", "inputs", "N", "unique jets", "epochs", "early-stopped loss"),
            rows,
        ),
        _repeated_constants(repetition),
    ]
    if repetition.inputs is not None:
        tables.append(_input_laws(repetition))
    return tables


def _repeated_constants(repetition: Repetition) -> Table:
    rows: list[list[str]] = []
    if isinstance(repetition.threshold, str):
        rows.append(["overfitting threshold", repetition.threshold, ""])
    else:
        e = repetition.threshold.exponent
        rows.append(["lambda of N ~ U^lambda (overfitting threshold)", interval(e), verdict(e)])
    if isinstance(repetition.repeated, str):
        rows.append(["repeated data", repetition.repeated, ""])
        return Table("Repeated data.", ("constant", "value [68 %]", "identified"), rows)
    r = repetition.repeated
    named = {"E": "L_inf", "B": "B_rep", "beta": "beta_rep"}
    rows += [[label, interval(r.fit.params[key]), verdict(r.fit.params[key])] for key, label in named.items()]
    rows.append(["fall of L per decade of N over that per decade of U, above the threshold", interval(r.size_slope),
                 verdict(r.size_slope)])  # fmt: skip
    if r.beta_difference is not None:
        rows.append(["beta_rep - beta", interval(r.beta_difference), verdict(r.beta_difference)])
    for name, table in {"omega (equal losses)": r.gain, "omega (eq. 5)": r.gain_equal_floors,
                        "compute over compute-optimal": r.cost}.items():  # fmt: skip
        rows += [
            [f"{name} at {u:,.0f} jets", interval(e), repetition.doubt or verdict(e)]
            for u, e in table.items()
        ]
    if r.mean_cost is not None:
        told = repetition.doubt or verdict(r.mean_cost)
        rows.append(["compute over compute-optimal, geometric mean", interval(r.mean_cost), told])
    return Table(
        "Repeated data: L = L_inf + B_rep/U^beta_rep of runs above the overfitting threshold whose loss stopped "
        "falling before they were cut off; omega is how many times more unique jets a single epoch would need for the "
        "same loss; the cost is set beside the compute-optimal single epoch.",
        ("constant", "value [68 %]", "identified"),
        rows,
    )


def _input_laws(repetition: Repetition) -> Table:
    caption = (
        "Laws of early-stopped loss by inputs, L = L_inf + B/U^beta, free, and with a common beta; of runs whose "
        "loss stopped falling before they were cut off."
    )
    header = (
        "inputs",
        "L_inf [68 %]",
        "B [68 %]",
        "beta [68 %]",
        "L_inf at common beta [68 %]",
        "beta identified",
    )
    found = repetition.inputs
    if found is None or isinstance(found, str):
        return Table(caption, header, [[str(found), *[""] * 5]])
    rows = [
        [
            name, *(interval(law.params[key]) for key in ("E", "B", "beta")),
            interval(found.floors_at_common_slope[name]), verdict(law.params["beta"]),
        ]
        for name, law in found.fits.items()
    ]  # fmt: skip
    tests = (
        f" Equal slopes: chi2 = {found.slopes.chi2:.1f} / {found.slopes.dof}, p = "
        f"{found.slopes.p_value:.2g}; equal floors "
        f"at the common slope: chi2 = {found.shared_floors.chi2:.1f} / {found.shared_floors.dof}, "
        f"p = {found.shared_floors.p_value:.2g}. The other sections have {repetition.own_inputs}."
    )
    return Table(caption + tests, header, rows)


def repetition_figures(repetition: Repetition) -> dict[str, Drawn]:
    """Phase diagram, early-stopped losses and gain, cost, and the laws of other inputs."""
    figures: dict[str, Drawn] = {}
    own = repetition.points[repetition.own_inputs]
    if not isinstance(repetition.threshold, str):
        figures["phase-diagram"] = Drawn(
            phase_diagram(repetition.threshold, own.variable("N"), own.variable("U")),
            "Where repeated data are overfitted",
            "Runs on U unique jets, seen until the held-out loss stopped falling: crosses end above "
            "their lowest loss. "
            "Grey bars bracket the border at each U; the band is the 68 % interval of N ~ U^lambda.",
        )
    if not isinstance(repetition.repeated, str):
        figures["repetition"] = Drawn(
            early_stopped_losses(repetition.repeated),
            "Repeated data beside a single epoch",
            "Left: early-stopped losses against unique jets, with the fitted laws. Right: how many "
            "times more unique jets a "
            "single epoch would need for the loss that repetition reaches; open markers are not identified.",
        )
        if repetition.repeated.cost:
            figures["repetition-cost"] = Drawn(
                repetition_cost(repetition.repeated),
                "The price of repetition",
                "Compute of the cheapest overfitting run at each U, up to its early stop, over the "
                "compute-optimal single "
                "epoch of equal loss.",
            )
    if repetition.inputs is not None and not isinstance(repetition.inputs, str):
        figures["inputs"] = Drawn(
            input_laws(repetition.inputs),
            "Other inputs: floor or slope?",
            "Early-stopped losses of one width with different inputs, and the floors and exponents of "
            "their laws; open "
            "markers are not identified.",
        )
    return figures


def repetition_findings(repetition: Repetition) -> list[str]:
    """Sentences for the head of the report."""
    lines = []
    if isinstance(repetition.threshold, str):
        lines.append(f"Repeated data: {repetition.threshold}.")
    else:
        e = repetition.threshold.exponent
        lines.append(
            f"Overfitting begins at N ~ U^lambda with lambda = {interval(e)}"
            f"{'' if e.identified else ', not identified: ' + e.reason}."
        )
    if isinstance(repetition.repeated, str):
        lines.append(f"Repeated data: {repetition.repeated}.")
    else:
        r = repetition.repeated
        text = ", ".join(
            f"{label} = {interval(r.fit.params[key])}"
            for key, label in (("E", "L_inf"), ("beta", "beta_rep"))
        )
        unknown = [
            label for key, label in (("E", "L_inf"), ("beta", "beta_rep")) if not r.fit.params[key].identified
        ]
        lines.append(
            f"Early-stopped loss above the threshold: {text}"
            + (f"; not identified: {', '.join(unknown)}." if unknown else ".")
        )
        if repetition.doubt:
            lines.append(
                f"What repetition gains and costs beside a single epoch cannot be told; {repetition.doubt}."
            )
        elif r.mean_cost is not None and r.mean_cost.identified:
            lines.append(
                f"Repetition costs {interval(r.mean_cost)} times the compute-optimal single epoch of equal loss."
            )
    found = repetition.inputs
    if found is not None and not isinstance(found, str):
        slopes, floors = found.slopes, found.shared_floors
        lines.append(
            f"Inputs: exponents {'agree' if slopes.p_value > 0.05 else 'differ'} (p = "
            f"{slopes.p_value:.2g}), floors at a "
            f"common exponent {'agree' if floors.p_value > 0.05 else 'differ'} (p = {floors.p_value:.2g})."
        )
    return lines
