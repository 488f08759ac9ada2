"""Scaling laws: forms, fits with intervals, learnable windows and plans. It needs numpy and scipy alone.

A minimal example:

    from eval.scaling import fit, read_points
    result = fit(read_points("points.csv"))
    print(result)

Figures are drawn by ``eval.scaling.figures`` and ``eval.scaling.repetition.figures``, which also need matplotlib.
"""

from eval.common.errors import InputError
from eval.common.results import Estimate
from eval.scaling.approaches.comparison import Comparison, compare_approaches
from eval.scaling.approaches.envelope import envelope
from eval.scaling.approaches.frontier import FrontierFit
from eval.scaling.approaches.isoflop import IsoflopBias, isoflop, isoflop_bias
from eval.scaling.entropy import ReferenceLevels, ReferenceModels, Sequences, class_levels, reference_levels
from eval.scaling.fitting.fit import fit, profile
from eval.scaling.fitting.misfit import Misfit, misfit
from eval.scaling.fitting.objective import Objective
from eval.scaling.fitting.result import FitResult, Status
from eval.scaling.fitting.uncertainty import Profile
from eval.scaling.laws.law import Law, Parameter
from eval.scaling.laws.registry import get_law
from eval.scaling.plan import Frontier, Plan, plan
from eval.scaling.points import Points, read_points
from eval.scaling.repetition.fit import RepeatedData, repeated_data, repetition_gain
from eval.scaling.repetition.inputs import InputComparison, compare_inputs
from eval.scaling.repetition.threshold import Curve, Threshold, overfitting_threshold
from eval.scaling.selection import (
    Ranking,
    Spread,
    Variant,
    compare_laws,
    sensitivity,
    spread,
    systematic,
    variants,
)
from eval.scaling.simulate import grid, isoflop_grid, simulate
from eval.scaling.window import WindowResult, contrast, window

__all__ = [
    "Comparison",
    "Curve",
    "Estimate",
    "FitResult",
    "Frontier",
    "FrontierFit",
    "InputComparison",
    "InputError",
    "IsoflopBias",
    "Law",
    "Misfit",
    "Objective",
    "Parameter",
    "Plan",
    "Points",
    "Profile",
    "Ranking",
    "ReferenceLevels",
    "ReferenceModels",
    "RepeatedData",
    "Sequences",
    "Spread",
    "Status",
    "Threshold",
    "Variant",
    "WindowResult",
    "class_levels",
    "compare_approaches",
    "compare_inputs",
    "compare_laws",
    "contrast",
    "envelope",
    "fit",
    "get_law",
    "grid",
    "isoflop",
    "isoflop_bias",
    "isoflop_grid",
    "misfit",
    "overfitting_threshold",
    "plan",
    "profile",
    "read_points",
    "reference_levels",
    "repeated_data",
    "repetition_gain",
    "sensitivity",
    "simulate",
    "spread",
    "systematic",
    "variants",
    "window",
]
