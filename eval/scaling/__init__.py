"""Scaling laws that can be believed: forms, fits, intervals, windows, plans. numpy and scipy only.

from eval.scaling import fit, read_points
result = fit(read_points("points.csv"))
print(result)
"""

from eval.errors import InputError
from eval.scaling.entropy import ReferenceLevels, class_levels, entropies
from eval.scaling.fitting import fit, fit_rejection
from eval.scaling.forms import get_law
from eval.scaling.plan import Plan, plan
from eval.scaling.points import Points, read_points
from eval.scaling.repetition import repetition_gain
from eval.scaling.result import Estimate, FitResult, Status
from eval.scaling.window import WindowResult, window

__all__ = [
    "Estimate",
    "FitResult",
    "InputError",
    "Plan",
    "Points",
    "ReferenceLevels",
    "Status",
    "WindowResult",
    "class_levels",
    "entropies",
    "fit",
    "fit_rejection",
    "get_law",
    "plan",
    "read_points",
    "repetition_gain",
    "window",
]
