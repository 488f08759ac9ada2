"""The learnable window: what lies between a reference level and the floor, and how much of it is learned.

For a reference loss L_ref (a model that knows nothing, or little) and a fitted floor L_inf, the window is
W = L_ref - L_inf, the occupancy of a loss L is w = (L_ref - L)/W, and the saturation scale of N, D or C is
its least
value with w >= 0.9, 0.95, 0.99 when nothing else limits (C: along the compute-optimal line).
No published source fixes these definitions; they are this project's choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.errors import InputError
from eval.results import SCHEMA_VERSION, Estimate
from eval.scaling.entropy import ReferenceLevels
from eval.scaling.forms import POWER_NAMES, Power
from eval.scaling.plan import Frontier
from eval.scaling.result import FitResult
from eval.scaling.selection import Variant

FloatArray = NDArray[np.float64]

OCCUPANCIES = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Saturation:
    """Least value of one variable at which the window is occupied to a given share."""

    variable: str
    occupancy: float
    scale: Estimate
    beyond_data: float
    """Scale over the largest fitted value: above one it is an extrapolation."""

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        beyond = self.beyond_data if np.isfinite(self.beyond_data) else None
        return {
            "variable": self.variable,
            "occupancy": self.occupancy,
            "scale": self.scale.to_dict(),
            "beyond_data": beyond,
        }


@dataclass(frozen=True)
class Level:
    """The window below one reference level; all in nats (per token or per jet, as the fitted loss is)."""

    name: str
    reference: float
    window: Estimate
    share: Estimate
    """Window over reference: the part of the information that is pattern."""
    reached: Estimate
    """Occupancy of the lowest measured loss."""
    saturation: tuple[Saturation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {
            "reference": self.reference,
            "window": self.window.to_dict(),
            "share": self.share.to_dict(),
            "reached": self.reached.to_dict(),
            "saturation": [s.to_dict() for s in self.saturation],
        }


@dataclass(frozen=True, eq=False)
class WindowResult:
    """Windows of one task below all its reference levels.

    Attributes
    ----------
    floor : Estimate
        L_inf.
    lowest_loss : float
        Lowest measured loss.
    levels : mapping of str to Level
    fit : FitResult
        The fit the floor comes from.
    sensitivity : mapping of str to Estimate
        The floor when part of the points is left out: it moves more than the quoted errors.
    excluded : mapping of str to str
        Reference levels at or below the floor, which have no window, with the reason.
    """

    floor: Estimate
    lowest_loss: float
    levels: Mapping[str, Level]
    fit: FitResult
    sensitivity: Mapping[str, Estimate] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)

    def occupancy(
        self, level: str, variable: str, x: ArrayLike, interval: float = 0.6827
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Occupancy along one variable, nothing else limiting: value and interval ends, shape of ``x``."""
        if level not in self.levels:
            raise InputError(f"level: {level} is not one of {', '.join(self.levels)}")
        terms = _terms(self.fit)
        if variable not in terms:
            raise InputError(f"variable: {variable} is not one of {', '.join(terms)}")
        floor, amplitude, exponent = terms[variable]
        reference = self.levels[level].reference
        x = np.asarray(x, dtype=np.float64)
        excess = np.exp(np.log(amplitude)[:, None] - np.outer(exponent, np.log(x.ravel())))
        width = np.where(reference > floor, reference - floor, np.nan)
        w = (1 - excess / width[:, None]).reshape(-1, *x.shape)
        if len(w) == 1:
            return w[0], np.full(x.shape, np.nan), np.full(x.shape, np.nan)
        low, high = np.nanquantile(w[1:], [0.5 - interval / 2, 0.5 + interval / 2], axis=0)
        return w[0], low, high

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "floor": self.floor.to_dict(),
            "lowest_loss": self.lowest_loss,
            "levels": {name: level.to_dict() for name, level in self.levels.items()},
            "excluded": dict(self.excluded),
            "floor_by_fit_window": {name: e.to_dict() for name, e in self.sensitivity.items()},
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row a level and saturation scale, for a table (CSV)."""
        return [
            {
                "level": level.name,
                "reference": level.reference,
                **_cells("floor", self.floor),
                **_cells("window", level.window),
                **_cells("share", level.share),
                **_cells("reached", level.reached),
                "variable": s.variable,
                "occupancy": s.occupancy,
                **_cells("scale", s.scale),
                "identified": s.scale.identified,
            }
            for level in self.levels.values()
            for s in level.saturation
        ]


def _cells(name: str, estimate: Estimate) -> dict[str, float]:
    low, high = estimate.ci68 or (np.nan, np.nan)
    return {name: estimate.value, f"{name}_low68": low, f"{name}_high68": high}


def window(
    levels: ReferenceLevels | Mapping[str, float],
    fit: FitResult,
    *,
    variants: Sequence[Variant] = (),
    lowest_loss: float | None = None,
    occupancies: tuple[float, ...] = OCCUPANCIES,
) -> WindowResult:
    """Learnable window below each reference level, with the bootstrap of the fit behind every interval.

    Parameters
    ----------
    levels : ReferenceLevels or mapping of str to float
        Losses of reference models in nats, in the units of the fitted loss. For tagging ``class_levels``.
    fit : FitResult
        A law with a floor: ``additive``, ``additive-tied`` or ``power`` of one variable.
    variants : sequence of Variant, optional
        From ``sensitivity``: the floors of fits to parts of the points, kept beside the result.
    lowest_loss : float, optional
        Lowest measured loss; by default that of the fitted points.
    occupancies : tuple of float
        Shares for the saturation scales.

    Raises
    ------
    InputError
        A law without floor, or no reference level at all above it.
    """
    references = levels.levels if isinstance(levels, ReferenceLevels) else dict(levels)
    terms = _terms(fit)
    floor = next(iter(terms.values()))[0]
    lowest = fit.data_window["L"][0] if lowest_loss is None else lowest_loss
    floor_reason = fit.params["E"].reason
    found, excluded = {}, {}
    for name, reference in references.items():
        if not (np.isfinite(reference) and reference > floor[0]):
            excluded[name] = f"{reference:.4g} is not above the floor {floor[0]:.4g}"
            continue
        # A resample whose floor exceeds the reference has no window: its scales are infinite.
        width = np.where(reference > floor, reference - floor, np.nan)
        saturation = tuple(
            _saturation(fit, variable, share, width, *terms[variable], floor_reason)
            for variable in terms
            for share in occupancies
        )
        found[name] = Level(
            name,
            float(reference),
            _estimate(reference - floor, floor_reason),
            _estimate((reference - floor) / reference, floor_reason),
            _estimate((reference - lowest) / (reference - floor), floor_reason),
            saturation,
        )
    if not found:
        raise InputError(f"levels: none lies above the floor {floor[0]:.4g} (found {references})")
    floors = {v.name: v.fit.params["E"] for v in variants}
    return WindowResult(fit.params["E"], float(lowest), found, fit, floors, excluded)


def contrast(
    results: Mapping[str, WindowResult], level: str | Mapping[str, str] = "uniform"
) -> list[dict[str, Any]]:
    """One row a task: floor, window, share and the compute that fills it, side by side.

    Parameters
    ----------
    results : mapping of str to WindowResult
        ``{"generation": ..., "tagging": ...}``.
    level : str or mapping
        Reference level, one for all tasks or by task.
    """
    rows = []
    for task, result in results.items():
        name = level if isinstance(level, str) else level[task]
        if name not in result.levels:
            raise InputError(f"level: {task} has no level {name} ({', '.join(result.levels)})")
        chosen = result.levels[name]
        row: dict[str, Any] = {"task": task, "level": name, "reference": chosen.reference}
        for key, estimate in {
            "floor": result.floor,
            "window": chosen.window,
            "share": chosen.share,
            "reached": chosen.reached,
            **{f"C_{s.occupancy:g}": s.scale for s in chosen.saturation if s.variable == "C"},
        }.items():
            row |= _cells(key, estimate) | {f"{key}_identified": estimate.identified}
        rows.append(row)
    return rows


def _terms(fit: FitResult) -> dict[str, tuple[FloatArray, FloatArray, FloatArray]]:
    """Floor, amplitude, exponent of L = E + amplitude/x^exponent by x: the fit first, then its bootstrap."""
    column = dict(zip(fit.law.names, fit.refits.T, strict=True))
    if fit.law.name in ("additive", "additive-tied"):
        line = Frontier.of(fit)
        beta = column.get("beta", column["alpha"])
        return {
            "N": (column["E"], column["A"], column["alpha"]),
            "D": (column["E"], column["B"], beta),
            "C": (column["E"], line.K, line.gamma),
        }
    if isinstance(fit.law, Power) and fit.law.floor:
        amplitude, exponent = POWER_NAMES[fit.law.variable]
        return {fit.law.variable: (column["E"], column[amplitude], column[exponent])}
    raise InputError(f"window: law {fit.law.name} has no floor as a constant; use additive or power")


def _saturation(
    fit: FitResult,
    variable: str,
    share: float,
    width: FloatArray,
    floor: FloatArray,
    amplitude: FloatArray,
    exponent: FloatArray,
    floor_reason: str,
) -> Saturation:
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.exp(np.minimum((np.log(amplitude) - np.log((1 - share) * width)) / exponent, 700.0))
    scale = np.where(np.isnan(scale) | (scale > 1e300), np.inf, scale)
    estimate = Estimate.from_samples(scale[0], scale[1:] if len(scale) > 1 else None)
    # A floor that runs into its bound cuts the interval of the scale short.
    reason = f"L_inf is not identified: {floor_reason}" if floor_reason else ""
    if not reason and estimate.ci95 is not None:
        low, high = estimate.ci95
        if not np.isfinite(high):
            reason = "the 95% interval has no upper end"
        elif not low > 0:
            reason = "the 95% interval reaches zero"
        elif np.log10(high / low) > 2:
            reason = f"the 95% interval spans {np.log10(high / low):.1f} decades"
    estimate = Estimate(
        estimate.value,
        estimate.ci68,
        estimate.ci95,
        None if estimate.ci95 is None and not reason else not reason,
        reason,
    )
    return Saturation(variable, share, estimate, float(scale[0] / fit.data_window[variable][1]))


def _estimate(column: FloatArray, reason: str) -> Estimate:
    return Estimate.from_samples(column[0], column[1:] if len(column) > 1 else None, reason)
