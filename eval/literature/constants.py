"""Comparison of measured constants with published ones."""

from __future__ import annotations

from dataclasses import dataclass

from eval.common.results import Estimate
from eval.literature.findings import Findings
from eval.literature.values import ATLAS, CONSTANTS, FULL_INPUTS, GENERATION, Constant
from eval.scaling.fitting.result import FitResult
from eval.scaling.repetition.fit import RepeatedData
from eval.scaling.repetition.threshold import Threshold


@dataclass(frozen=True)
class MeasuredConstant:
    """A measured and a published constant; ``comparable`` says whether the two may be compared at all."""

    measured: Estimate
    published: Constant
    comparable: bool


def constants_table(findings: Findings) -> list[MeasuredConstant]:
    """Every constant of ``CONSTANTS`` that was measured here, in that order."""
    f = findings
    measured: dict[tuple[str, str], Estimate] = {}
    if f.tagging:
        measured |= {("L_inf" if key == "E" else key, ""): estimate for key, estimate in f.tagging.items()}
        measured["a", "from scratch"] = f.tagging["a"]
    if f.isoflop_a is not None:
        measured["a_isoflop", "from scratch"] = f.isoflop_a
    measured |= _of_repeated_data(f.repetition, f.threshold, "")
    measured |= _of_repeated_data(f.generation_repetition, f.generation_threshold, GENERATION)
    laws: dict[str, FitResult] = dict(f.inputs.fits) if f.inputs is not None else {}
    if f.repetition is not None:
        laws[FULL_INPUTS] = f.repetition.fit  # of all sizes above the threshold, not of one width
    for inputs, law in laws.items():
        for key, name in {"L_inf_rep": "E", "B_rep": "B", "beta_rep": "beta"}.items():
            measured[key, inputs] = law.params[name]
    return [
        MeasuredConstant(ours, constant, constant.transfers or (f.same_jets and constant.source != ATLAS))
        for constant in CONSTANTS
        if (ours := measured.get((constant.key, constant.variant))) is not None
    ]


def _of_repeated_data(
    law: RepeatedData | None, threshold: Threshold | None, variant: str
) -> dict[tuple[str, str], Estimate]:
    """Constants of repeated data of one task, by key and variant."""
    found: dict[str, Estimate | None] = {}
    if threshold is not None:
        found["lambda"] = threshold.exponent
    if law is not None:
        found |= {
            "beta_rep": law.fit.params["beta"],
            "beta_rep - beta": law.beta_difference,
            "size slope": law.size_slope,
            "cost": law.mean_cost,
        }
    return {(key, variant): estimate for key, estimate in found.items() if estimate is not None}
