"""Measured constants beside published ones."""

from __future__ import annotations

from dataclasses import dataclass

from eval.literature.claims import Findings
from eval.literature.values import ATLAS, CONSTANTS, FULL_INPUTS, Constant
from eval.results import Estimate
from eval.scaling.result import FitResult


@dataclass(frozen=True)
class Comparison:
    """A measured constant beside a published one; ``comparable`` says whether the two may be compared at all."""

    measured: Estimate
    published: Constant
    comparable: bool


def constants_table(findings: Findings) -> list[Comparison]:
    """Every published constant that was measured here, in the order of ``CONSTANTS``."""
    f = findings
    measured: dict[tuple[str, str], Estimate] = {}
    if f.tagging is not None:
        single = {**f.tagging.params, **f.tagging.derived}
        single["L_inf"] = single.pop("E")
        measured |= {(key, ""): estimate for key, estimate in single.items()}
        measured["a", "from scratch"] = single["a"]
    if f.isoflop_a is not None:
        measured["a_isoflop", "from scratch"] = f.isoflop_a
    if f.threshold is not None:
        measured["lambda", ""] = f.threshold.exponent
    repeated: dict[str, FitResult] = dict(f.inputs.fits) if f.inputs is not None else {}
    if f.repetition is not None:
        repeated[FULL_INPUTS] = f.repetition.fit  # of all sizes above the threshold, not of one width
        if f.repetition.mean_cost is not None:
            measured["cost", ""] = f.repetition.mean_cost
    for inputs, law in repeated.items():
        for key, name in {"L_inf_rep": "E", "B_rep": "B", "beta_rep": "beta"}.items():
            measured[key, inputs] = law.params[name]
    return [
        Comparison(ours, constant, constant.transfers or (f.same_jets and constant.source != ATLAS))
        for constant in CONSTANTS
        if (ours := measured.get((constant.key, constant.variant))) is not None
    ]
