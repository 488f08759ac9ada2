"""What a fit minimises: a law, the points in centred variables, an objective, and bounds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.scaling.fitting.objective import Objective
from eval.scaling.laws.law import Law

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """A law, centred data and an objective; the coordinates are ``offset + basis z``.

    Attributes
    ----------
    law : Law
        The law.
    x : array of float, shape (k, n)
        Variables of the law at each point.
    u : array of float, shape (k, n)
        Transformed variables minus ``centre``.
    y : array of float, shape (n,)
        Responses.
    weight : array of float, shape (n,)
        Weights of the points.
    objective : Objective
        The objective to minimise.
    centre : array of float, shape (k,)
        Centres of the transformed variables.
    low : array of float, shape (p,)
        Lower bounds of the coordinates.
    high : array of float, shape (p,)
        Upper bounds of the coordinates.
    free : array of bool, shape (p,)
        Coordinates that are fitted; the others follow from ``fixed``.
    fixed : array of float, shape (p,)
        *Natural* coordinates of the fixed constants (ignored for free ones).
    source : str
        Name of the points for error messages.
    """

    law: Law
    x: FloatArray
    u: FloatArray
    y: FloatArray
    weight: FloatArray
    objective: Objective
    centre: FloatArray
    low: FloatArray
    high: FloatArray
    free: BoolArray
    fixed: FloatArray
    source: str = "points"

    @classmethod
    def build(
        cls,
        law: Law,
        x: FloatArray,
        y: FloatArray,
        weight: FloatArray,
        objective: Objective,
        fixed: Mapping[str, float] | None = None,
        source: str = "points",
    ) -> "Problem":
        """Check the points, centre the variables, and take bounds from the data.

        Parameters
        ----------
        law : Law
            The law.
        x : array of float, shape (k, n)
            Variables of the law at each point.
        y : array of float, shape (n,)
            Responses.
        weight : array of float, shape (n,)
            Weights of the points.
        objective : Objective
            The objective to minimise.
        fixed : mapping of str to float, optional
            Constants that are fixed, with their values.
        source : str
            Name of the points for error messages.

        Returns
        -------
        Problem

        Raises
        ------
        InputError
            There are fewer points than free constants, a variable does not vary, or a fixed constant is impossible.
        """
        fixed = fixed or {}
        _check(law, x, weight, fixed, source)
        u = law.transform(x)
        centre = law.centre(u, weight)
        u = u - centre[:, None]
        low, high = law.bounds(u, y)
        free = np.array([name not in fixed for name in law.names])
        values = np.array([fixed.get(name, 1.0) for name in law.names])
        return cls(law, x, u, y, weight, objective, centre, low, high, free, law.coordinates(values), source)

    def reduction(self, fixed: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Return matrix (p, m) and offsets (S, p) of the affine map from free to centred coordinates.

        ``fixed`` (S, p) replaces the fixed natural coordinates of each start. A fixed natural scale couples its centred
        coordinate to the exponents: ln A = ln A_c + alpha <ln N>.
        """
        fixed = np.atleast_2d(self.fixed if fixed is None else fixed)
        matrix, shift = self.law.centring(self.centre)
        free, held = np.flatnonzero(self.free), np.flatnonzero(~self.free)
        basis = np.eye(len(self.free))[:, free]
        offset = np.zeros((len(fixed), len(self.free)))
        if held.size:
            inverse = np.linalg.inv(matrix[np.ix_(held, held)])
            basis[held] = -inverse @ matrix[np.ix_(held, free)]
            offset[:, held] = (fixed[:, held] - shift[held]) @ inverse.T
        return basis, offset

    def natural(self, q: FloatArray) -> FloatArray:
        """Return natural parameter values (..., p) of centred coordinates (..., p)."""
        matrix, shift = self.law.centring(self.centre)
        return self.law.values(q @ matrix.T + shift)

    def centred(self, values: FloatArray) -> FloatArray:
        """Return centred coordinates (..., p) of natural parameter values (..., p)."""
        matrix, shift = self.law.centring(self.centre)
        return (self.law.coordinates(values) - shift) @ np.linalg.inv(matrix).T

    def residual(self, q: FloatArray, y: FloatArray | None = None) -> FloatArray:
        """Return residuals (S, n) of coordinates (S, p), from other responses ``y`` (S, n) if given."""
        f, _ = self.law.evaluate(np.atleast_2d(q), self.u)
        y = self.y if y is None else y
        return np.log(f) - np.log(y) if self.objective.log else f - y


def _check(law: Law, x: FloatArray, weight: FloatArray, fixed: Mapping[str, float], source: str) -> None:
    unknown = sorted(set(fixed) - set(law.names))
    if unknown:
        raise InputError(f"fixed: {unknown[0]} is not a constant of {law.formula} ({', '.join(law.names)})")
    for parameter in law.parameters:
        if parameter.name in fixed and not parameter.lower <= fixed[parameter.name] <= parameter.upper:
            raise InputError(
                f"fixed: {parameter.name} must lie in [{parameter.lower:g}, {parameter.upper:g}], "
                f"found {fixed[parameter.name]:g}"
            )
    used = weight > 0
    wanted = law.size - len(fixed)
    if wanted < 1:
        raise InputError(f"fixed: every constant of law {law.name} is held; there is nothing to fit")
    if used.sum() < wanted:
        raise InputError(
            f"{source}: {int(used.sum())} points cannot determine the {wanted} constants of {law.formula}"
        )
    for name, values in zip(law.variables, x, strict=True):
        if law.vary and np.ptp(values[used]) == 0:
            raise InputError(
                f"{source}: all points have {name} = {values[used][0]:g}; law {law.name} needs {name} to vary"
                + ("; fit one variable with law power" if len(law.variables) > 1 else "")
            )
