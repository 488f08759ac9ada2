"""The learnable window: how much a model can learn beyond a reference model, and how much of it is learned.

For the loss L_ref of a reference model that knows little and a fitted irreducible loss L_inf, the window is
W = L_ref - L_inf, and the occupancy of a loss L is w = (L_ref - L) / W. The saturation scale of N, D or C is the least
value with w >= 0.9, 0.95, 0.99 when nothing else limits (for C: along the compute-optimal line). No published source
fixes these definitions; they are this project's choice.

Refining a codebook adds the same nats to the losses of all models of tokens, apart from what the finer codes let them
learn. W is a difference of losses and goes to a limit, which belongs to the jets. The share W / L_ref goes to zero for
any jets, and must not be compared between tokenizers. For the same reason occupancy starts at the reference model that
knows most (the bigram table of a generator, the class shares of a tagger) rather than at a uniform guess, of whose
window a bigram table alone occupies most. W in nats per jet is also the mean log ratio of the densities that the best
model and the reference model assign to a jet, because the volumes of the cells cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, plain
from eval.scaling.entropy import ReferenceLevels
from eval.scaling.fitting.result import FitResult
from eval.scaling.plan import Frontier
from eval.scaling.selection import Variant

FloatArray = NDArray[np.float64]

OCCUPANCIES = (0.9, 0.95, 0.99)

#: Reference models at which occupancy starts, where a task has one of them.
STARTS: Final = ("bigram", "prior")


@dataclass(frozen=True)
class Saturation:
    """Least value of one variable at which the window is occupied to a given degree.

    Attributes
    ----------
    variable : "N", "D" or "C"
    occupancy : float
    scale : Estimate
    beyond_data : float
        Scale relative to the largest fitted value: above one it is an extrapolation.
    """

    variable: str
    occupancy: float
    scale: Estimate
    beyond_data: float


@dataclass(frozen=True)
class Level:
    """The window below the loss of one reference model; in the unit of the fitted loss where nothing else is said.

    Attributes
    ----------
    name : str
    reference : float
        L_ref.
    held_out : float or None
        Loss of the reference model itself on held-out jets, where it was measured: L_ref is not above it.
    window : Estimate
        L_ref - L_inf.
    window_per_jet : Estimate
        The same in nats per jet.
    share : Estimate
        Window / L_ref. It depends on the codebook: no number to compare between tokenizers.
    reached : Estimate
        Occupancy of the lowest measured loss.
    saturation : tuple of Saturation
    """

    name: str
    reference: float
    held_out: float | None
    window: Estimate
    window_per_jet: Estimate
    share: Estimate
    reached: Estimate
    saturation: tuple[Saturation, ...]


@dataclass(frozen=True, eq=False)
class WindowResult:
    """Windows of one task below the losses of all its reference models.

    Attributes
    ----------
    floor : Estimate
        L_inf.
    lowest_loss : float
        Lowest measured loss.
    levels : mapping of str to Level
    start : str
        The level at which occupancy starts.
    tokens_per_jet : float
        Terms of the loss in a jet; 1 for a tagger.
    fit : FitResult
        The fit that the floor comes from.
    sensitivity : mapping of str to Estimate
        The floor with some of the points left out, which often moves by more than the quoted errors.
    excluded : mapping of str to str
        Levels at or below the floor, which have no window, with the reason.
    """

    floor: Estimate
    lowest_loss: float
    levels: Mapping[str, Level]
    start: str
    tokens_per_jet: float
    fit: FitResult
    sensitivity: Mapping[str, Estimate] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)

    @property
    def main(self) -> Level:
        """The level at which occupancy starts."""
        return self.levels[self.start]

    def occupancy(
        self, level: str, variable: str, x: ArrayLike, interval: float = 0.6827
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Occupancy along one variable when nothing else limits.

        Parameters
        ----------
        level : str
            Level at which it starts.
        variable : str
            N, D or C.
        x : array-like of float
            Values of the variable.
        interval : float
            Probability content of the interval.

        Returns
        -------
        value : ndarray of float
            Occupancies, in the shape of ``x``.
        low : ndarray of float
            Lower end of the interval of each; not a number without a bootstrap.
        high : ndarray of float
            Upper end.

        Raises
        ------
        InputError
            For a level or a variable that this window does not have.
        """
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
        """Return plain values for JSON."""
        levels = plain(self.levels)
        for level in levels.values():
            del level["name"]
        return {
            "schema_version": SCHEMA_VERSION,
            "floor": plain(self.floor),
            "lowest_loss": self.lowest_loss,
            "tokens_per_jet": self.tokens_per_jet,
            "start": self.start,
            "levels": levels,
            "excluded": dict(self.excluded),
            "floor_by_fit_window": plain(self.sensitivity),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row for every level and saturation scale, for a table (CSV)."""
        return [
            {
                "level": level.name,
                "reference": level.reference,
                **_cells("floor", self.floor),
                **_cells("window", level.window),
                **_cells("window_per_jet", level.window_per_jet),
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
    """Learnable window below the loss of each reference model, every interval from the bootstrap of the fit.

    Parameters
    ----------
    levels : ReferenceLevels or mapping of str to float
        Losses of reference models in nats, in the unit of the fitted loss: ``reference_levels`` for a generator,
        ``class_levels`` for a tagger. Occupancy starts at the first of ``STARTS``, or, where none is given, at the
        lowest.
    fit : FitResult
        A law with a floor: ``additive``, ``additive-tied`` or ``power`` of one variable.
    variants : sequence of Variant, optional
        From ``sensitivity``: the floors of fits to some of the points, which are kept with the result.
    lowest_loss : float, optional
        Lowest measured loss; by default that of the fitted points.
    occupancies : tuple of float
        Occupancies for the saturation scales.

    Returns
    -------
    WindowResult

    Raises
    ------
    InputError
        For a law without a floor, and where the level at which occupancy starts is not above it.
    """
    if not isinstance(levels, ReferenceLevels):
        levels = ReferenceLevels(levels)
    terms = _terms(fit)
    floor = next(iter(terms.values()))[0]
    lowest = fit.data_window["L"][0] if lowest_loss is None else lowest_loss
    floor_reason = fit.params["E"].reason
    found, excluded = {}, {}
    for name, reference in levels.levels.items():
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
            levels.held_out.get(name),
            _estimate(reference - floor, floor_reason),
            _estimate(levels.tokens_per_jet * (reference - floor), floor_reason),
            _estimate((reference - floor) / reference, floor_reason),
            _estimate((reference - lowest) / (reference - floor), floor_reason),
            saturation,
        )
    start = next(
        (name for name in STARTS if name in levels.levels), min(levels.levels, key=levels.levels.__getitem__)
    )
    if start not in found:
        raise InputError(f"levels: there is nothing to learn below the {start} level, {excluded[start]}")
    floors = {v.name: v.fit.params["E"] for v in variants}
    return WindowResult(
        fit.params["E"], float(lowest), found, start, levels.tokens_per_jet, fit, floors, excluded
    )


def contrast(results: Mapping[str, WindowResult]) -> list[dict[str, Any]]:
    """One row for every task: floor, window, occupancy and the compute that fills it, from where each one starts.

    Parameters
    ----------
    results : mapping of str to WindowResult
        ``{"generation": ..., "tagging": ...}``.

    Returns
    -------
    list of dict
        Numbers with the ends of their 68 % intervals, and whether each is identified.
    """
    rows = []
    for task, result in results.items():
        level = result.main
        row: dict[str, Any] = {"task": task, "level": level.name, "reference": level.reference}
        for key, estimate in {
            "floor": result.floor,
            "window": level.window,
            "window_per_jet": level.window_per_jet,
            "reached": level.reached,
            **{f"C_{s.occupancy:g}": s.scale for s in level.saturation if s.variable == "C"},
        }.items():
            row |= _cells(key, estimate) | {f"{key}_identified": estimate.identified}
        rows.append(row)
    return rows


def _terms(fit: FitResult) -> dict[str, tuple[FloatArray, FloatArray, FloatArray]]:
    """Floor, amplitude, exponent of L = E + amplitude/x^exponent by x: the fit first, then its bootstrap."""
    column = dict(zip(fit.law.names, fit.refits.T, strict=True))
    if not fit.law.separable:
        raise InputError(f"window: law {fit.law.name} has no floor as a constant; use additive or power")
    terms = {
        variable: (column["E"], column[amplitude], column[exponent])
        for variable, amplitude, exponent in fit.law.terms
    }
    if fit.law.allocation:
        line = Frontier.of(fit)
        terms["C"] = (column["E"], line.K, line.gamma)
    return terms


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
    # A floor that runs into its bound cuts the interval of the scale short.
    reason = f"L_inf is not identified: {floor_reason}" if floor_reason else ""
    estimate = _estimate(scale).judged("scale", reason)
    return Saturation(variable, share, estimate, float(scale[0] / fit.data_window[variable][1]))


def _estimate(column: FloatArray, reason: str = "") -> Estimate:
    return Estimate.from_samples(column[0], column[1:] if len(column) > 1 else None, reason)
