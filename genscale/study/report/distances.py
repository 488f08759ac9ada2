"""Laws of the distance between generated and reference jets: what the report says of them."""

from __future__ import annotations

from eval.fidelity.law import DistanceLaws
from eval.results import Unavailable
from genscale.study.report.tables import Table, interval, verdict


def distance_findings(laws: DistanceLaws) -> list[str]:
    """The law of N and D in one sentence, with what could not be a point."""
    surface = laws.laws["N,D"]
    if isinstance(surface, Unavailable):
        return [f"The joint distance has no law of N and D ({surface})."]
    known = [f"{name} = {interval(e)}" for name, e in surface.params.items() if e.identified]
    unknown = [name for name, e in surface.params.items() if e.identified is False]
    text = "The joint distance, floors taken off, is fitted by E + A/N^alpha + B/D^beta"
    text += f" with {', '.join(known)}" if known else ""
    if unknown:
        text += f"; not identified: {', '.join(unknown)}"
    if laws.n_unresolved:
        text += f". {laws.n_unresolved} distances at their floor are no points of it"
    return [f"{text}."]


def distance_table(laws: DistanceLaws) -> Table:
    """One row for every fitted constant."""
    rows = []
    for name, law in laws.laws.items():
        if isinstance(law, Unavailable):
            rows.append([name, str(law), "", "", ""])
            continue
        rows += [
            [name, law.law.formula.replace("L", "d", 1), constant, interval(e), verdict(e)]
            for constant, e in {**law.params, **law.derived}.items()
        ]
    return Table(
        "Laws of the joint distance d, in standard deviations of the reference, its finite-sample floor taken off. E "
        "stays at any size and any amount of data: compare it with what the tokenizer alone makes. gamma is the "
        "exponent of compute.",
        ("law of", "formula", "constant", "value [68 %]", "identified"),
        rows,
    )
