"""Laws of the distance between generated and reference jets in model size and data."""

from __future__ import annotations

from eval.common.results import Unavailable
from eval.fidelity.law import DistanceLaws, distance_laws, distance_row
from eval.scaling.figures import fit_panels
from genscale.pages import Picture, Section, Table
from genscale.study.report.words import verdict
from genscale.study.results.study import Study

DISTANCES_FILE = "points-fidelity.csv"


def section(study: Study) -> Section | None:
    """Laws of the joint distance; None for a study without samples.

    The points have one row for every scored sample: N, D, C and the loss of its weights beside the joint distance.
    ``genscale fit FILE --column L=corrected --where resolved=1`` fits a law to them.
    """
    rows = []
    for (run, jets), result in study.samples.items():
        record = study.records[run]
        after = record.final if jets is None else next(e for e in record.evaluations if e.jets_seen >= jets)
        rows.append(
            {
                "N": record.parameters["total"], "D": after.jets_seen, "C": after.flops, "loss": after.metrics["loss"],
                **distance_row(result.joint),
                "run": run, "size": record.size, "seed": record.seed, "task": record.task,
                "n_generated": result.n_generated, "n_reference": result.n_reference,
            }
        )  # fmt: skip
    if not rows:
        return None
    least = min(study.config.fit.min_jets, max(row["D"] for row in rows))
    laws = distance_laws([row for row in rows if row["D"] >= least], **study.options)
    return Section(
        "Laws of the distance",
        found=[_found(laws)],
        figures=_figures(laws),
        tables=[_table(laws)],
        data={DISTANCES_FILE: rows},
    )


def _found(laws: DistanceLaws) -> str:
    surface = laws.laws["N,D"]
    if isinstance(surface, Unavailable):
        return f"The joint distance has no law of N and D ({surface})."
    known = [f"{name} = {e.text()}" for name, e in surface.params.items() if e.identified]
    unknown = [name for name, e in surface.params.items() if e.identified is False]
    text = "The joint distance above its floor is described by E + A/N^alpha + B/D^beta"
    text += f" with {', '.join(known)}" if known else ""
    text += f"; not identified: {', '.join(unknown)}" if unknown else ""
    text += (
        f". {laws.n_unresolved} distances that are not above their floor are not fitted"
        if laws.n_unresolved
        else ""
    )
    return f"{text}."


def _figures(laws: DistanceLaws) -> list[Picture]:
    fits = {
        f"d({name})": (laws.parts[name], law) for name, law in laws.laws.items() if not isinstance(law, Unavailable)
    }  # fmt: skip
    if not fits:
        return []
    figure = fit_panels(fits)
    for axes in figure.axes:
        axes.set_ylabel("d (standard deviations)")
    return [
        Picture(
            "laws-distance",
            "Laws of the distance",
            "Joint distance between generated and reference jets above its finite-sample floor, for all resolved "
            "samples, with the fitted law.",
            figure,
        )
    ]


def _table(laws: DistanceLaws) -> Table:
    rows = []
    for name, law in laws.laws.items():
        if isinstance(law, Unavailable):
            rows.append([name, str(law), "", "", ""])
            continue
        rows += [
            [name, law.law.formula.replace("L", "d", 1), constant, e.text(), verdict(e)]
            for constant, e in {**law.params, **law.derived}.items()
        ]
    return Table(
        "Laws of the distance",
        "Laws of the joint distance d above its finite-sample floor, in standard deviations of the reference. E is the "
        "limit of infinite size and data, to be compared with the distance that the tokenizer alone causes; gamma is "
        "the exponent of compute.",
        ("law of", "formula", "constant", "value [68 %]", "identified"),
        rows,
    )
