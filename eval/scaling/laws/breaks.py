"""Laws of one variable that bend: one smooth break, and the sigmoid-like M4."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from eval.scaling.laws.forms import check_variable
from eval.scaling.laws.law import (
    FLOOR,
    Law,
    Parameter,
    Term,
    exponent_parameter,
    log_positive,
    project,
    scale_at_one,
    spread,
)

FloatArray = NDArray[np.float64]


def _softplus(z: FloatArray) -> FloatArray:
    return np.logaddexp(0.0, z)


class BrokenPower(Law):
    """L = E + b x^-c0 (1 + (x/d)^(1/f))^(-c1 f), one smooth break (Caballero et al., arXiv:2210.14891)."""

    def __init__(self, variable: str) -> None:
        x = check_variable(variable)
        super().__init__(
            name="broken",
            formula=f"L = E + b {x}^-c0 (1 + ({x}/d)^(1/f))^(-c1 f)",
            source="arXiv:2210.14891",
            variables=(x,),
            parameters=(
                FLOOR,
                scale_at_one("b", f"first power law at {x} = 1"),
                exponent_parameter("c0", "exponent before the break"),
                Parameter("c1", "change of exponent at the break", lower=-5.0, upper=5.0, kind="exponent"),
                Parameter("d", "place of the break", unit=f"as {x}", log=True),
                Parameter("f", "width of the break in e-folds", log=True, lower=0.05, upper=5.0),
            ),
            terms=(Term(x, "b", "c0"),),
        )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        c0, c1, d, f = q[:, 2:3], q[:, 3:4], q[:, 4:5], np.exp(q[:, 5:6])
        z = (u[0] - d) / f
        bend, share = _softplus(z), expit(z)
        term = np.exp(np.minimum(q[:, 1:2] - c0 * u[0] - c1 * f * bend, 300.0))
        slopes = (-u[0], -f * bend, c1 * share, -c1 * f * (bend - z * share))
        jacobian = np.stack([np.ones_like(term), term, *(term * slope for slope in slopes)], axis=1)
        return q[:, :1] + term, jacobian

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:
        matrix, shift = super().centring(centre)
        shift[4] = centre[0]  # d is a place in x
        return matrix, shift

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        low, high = super().bounds(u, y)
        # A break outside the data cannot be told from none.
        low[4], high[4] = u[0].min(), u[0].max()
        low[5], high[5] = np.log(0.05), np.log(5.0)
        return low, high

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        box = spread(
            count,
            [np.log(0.03), -1.0, u[0].min(), np.log(0.1)],
            [np.log(2.0), 1.0, u[0].max(), np.log(3.0)],
            rng,
        )
        q = np.column_stack([np.zeros(count), np.zeros(count), np.exp(box[:, 0]), box[:, 1:]])
        term, _ = self.evaluate(q, u)
        linear = project(np.stack([np.ones_like(term), term], axis=1), y, weight / y**2)
        q[:, 0], q[:, 1] = linear[:, 0], log_positive(linear[:, 1], y)
        return q


class M4(Law):
    """(L - E)/(E0 - L)^alpha = B/x^beta: from E0, the loss of guessing, down to E (Alabdulmohsin et al. 2022).

    L is defined implicitly. With L = E + (E0 - E) s and s = 1/(1 + exp(-z)) the law reads
    ln s - alpha ln(1 - s) = t(x), whose left side rises monotonically with z, so that Newton's method cannot
    fail.
    """

    def __init__(self, variable: str) -> None:
        x = check_variable(variable)
        super().__init__(
            name="m4",
            formula=f"(L - E)/(E0 - L)^alpha = B/{x}^beta",
            source="arXiv:2209.06640",
            variables=(x,),
            parameters=(
                FLOOR,
                Parameter("E0", "loss before any learning", unit="nats"),
                exponent_parameter("alpha", "weight of the upper plateau"),
                scale_at_one("B", f"term at {x} = 1"),
                exponent_parameter("beta", "exponent of the power-law region"),
            ),
            terms=(Term(x, "B", "beta"),),
        )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        floor, top, alpha, beta = q[:, 0:1], q[:, 1:2], q[:, 2:3], q[:, 4:5]
        depth = np.maximum(top - floor, 1e-12)
        log_depth = np.log(depth)
        target = q[:, 3:4] - beta * u[0] - (1 - alpha) * log_depth
        z = np.where(target < 0, target, target / alpha)
        for _ in range(50):
            s = expit(z)
            change = (target + _softplus(-z) - alpha * _softplus(z)) / (1 - s + alpha * s)
            z = z + change
            if np.abs(change).max() < 1e-13 * (1 + np.abs(z).max()):
                break
        s = expit(z)
        # dz = d(target - alpha softplus(z) at fixed z) / h'(z), h' the slope of the left side.
        by_target = depth * s * (1 - s) / (1 - s + alpha * s)
        by_depth = -(1 - alpha) / depth * by_target
        jacobian = np.stack(
            [
                1 - s - by_depth,
                s + by_depth,
                by_target * (log_depth - _softplus(z)),
                by_target,
                -by_target * u[0],
            ],
            axis=1,
        )
        return floor + depth * s, jacobian

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        low, high = super().bounds(u, y)
        high[0] = y.min()
        low[1], high[1] = y.max() * (1 + 1e-9), 100 * y.max()
        return low, high

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        box = spread(count, [0.0, np.log(0.01), np.log(0.1)], [0.99, np.log(10.0), np.log(3.0)], rng)
        floor, top, alpha = box[:, :1] * y.min(), y.max() * (1 + np.exp(box[:, 1:2])), np.exp(box[:, 2:])
        # For given plateaus and alpha the law is a straight line in ln x.
        left = np.log(y - floor) - alpha * np.log(top - y)
        centred = u[0] - np.average(u[0], weights=weight)
        slope = -(left * weight) @ centred / (weight @ centred**2)
        level = left @ weight / weight.sum() + slope * (u[0].mean() - centred.mean())
        exponent = np.clip(slope, 0.01, 4.0)
        return np.column_stack([floor, top, alpha, level, exponent])


#: Laws of one variable, which the caller chooses.
CURVES: Mapping[str, Callable[[str], Law]] = {"broken": BrokenPower, "m4": M4}
