"""The laws of model size, data, compute and loss."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.scaling.laws.law import (
    FLOOR,
    Law,
    Parameter,
    PowerSum,
    Term,
    exponent_parameter,
    log_positive,
    project,
    scale_at_one,
    spread,
)

FloatArray = NDArray[np.float64]

POWER_NAMES = {"N": ("A", "alpha"), "D": ("B", "beta"), "C": ("K", "gamma"), "U": ("B", "beta")}
"""Amplitude and exponent of a power law in one variable."""


def check_variable(variable: str) -> str:
    """Return a variable of a law of one variable; raise InputError if there is no such variable."""
    if variable not in POWER_NAMES:
        raise InputError(f"variable: {variable} is not one of {', '.join(POWER_NAMES)}")
    return variable


class Additive(Law):
    """L = E + A/N^alpha + B/D^beta, exponents free or tied (Hoffmann et al., arXiv:2203.15556, eq. 2)."""

    def __init__(self, tied: bool = False) -> None:
        beta = "alpha" if tied else "beta"
        parameters = (
            FLOOR,
            scale_at_one("A", "model-size term at N = 1"),
            exponent_parameter("alpha", "exponent of model size"),
            scale_at_one("B", "data term at D = 1"),
            exponent_parameter("beta", "exponent of data"),
        )
        super().__init__(
            name="additive-tied" if tied else "additive",
            formula=f"L = E + A/N^alpha + B/D^{beta}",
            source="arXiv:2203.15556",
            variables=("N", "D"),
            parameters=parameters[:4] if tied else parameters,
            terms=(Term("N", "A", "alpha"), Term("D", "B", beta)),
            separable=True,
            allocation=("alpha", beta),
        )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        tied = self.size == 4
        alpha, beta = q[:, 2:3], q[:, 2:3] if tied else q[:, 4:5]
        model = np.exp(q[:, 1:2] - alpha * u[0])
        data = np.exp(q[:, 3:4] - beta * u[1])
        jacobian = np.empty((len(q), self.size, u.shape[1]))
        jacobian[:, 0] = 1.0
        jacobian[:, 1] = model
        np.multiply(model, -u[0], out=jacobian[:, 2])
        jacobian[:, 3] = data
        if tied:
            jacobian[:, 2] -= data * u[1]
        else:
            np.multiply(data, -u[1], out=jacobian[:, 4])
        return q[:, 0:1] + model + data, jacobian

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        tied = self.size == 4
        exponents = np.exp(spread(count, np.log([0.03, 0.03]), np.log([2.0, 2.0]), rng))
        if tied:
            exponents[:, 1] = exponents[:, 0]
        basis = np.stack(
            [np.ones((count, len(y))), np.exp(-exponents[:, :1] * u[0]), np.exp(-exponents[:, 1:] * u[1])],
            axis=1,
        )
        linear = project(basis, y, weight / y**2)
        q = np.column_stack(
            [linear[:, 0], log_positive(linear[:, 1], y), exponents[:, 0], log_positive(linear[:, 2], y)]
        )
        return q if tied else np.column_stack([q, exponents[:, 1]])


class Power(Law):
    """L = E + A/x^alpha in one variable, with or without the irreducible loss E.

    The constants are called A, alpha for N; B, beta for D or U; K, gamma for C. In U (unique data) with the
    early-stopped loss of repeated training it is eq. 4 of Vigl et al., arXiv:2602.15781.
    """

    def __init__(self, variable: str, floor: bool = True) -> None:
        amplitude, exponent = POWER_NAMES[check_variable(variable)]
        term = (
            scale_at_one(amplitude, f"term at {variable} = 1"),
            exponent_parameter(exponent, f"exponent of {variable}"),
        )
        super().__init__(
            name="power" if floor else "power-nofloor",
            formula=f"L = {'E + ' if floor else ''}{amplitude}/{variable}^{exponent}",
            source="arXiv:2001.08361",
            variables=(variable,),
            parameters=(FLOOR, *term) if floor else term,
            terms=(Term(variable, amplitude, exponent),),
            separable=floor,
        )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        i = self.size - 2
        term = np.exp(q[:, i : i + 1] - q[:, i + 1 : i + 2] * u[0])
        jacobian = np.ones((len(q), self.size, u.shape[1]))
        jacobian[:, i] = term
        np.multiply(term, -u[0], out=jacobian[:, i + 1])
        return (q[:, :1] + term if i else term), jacobian

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        exponent = np.exp(spread(count, [np.log(0.01)], [np.log(3.0)], rng))
        terms = [np.exp(-exponent * u[0])]
        if self.separable:
            terms.insert(0, np.ones_like(terms[0]))
        linear = project(np.stack(terms, axis=1), y, weight / y**2)
        q = np.column_stack([log_positive(linear[:, -1], y), exponent[:, 0]])
        return np.column_stack([linear[:, 0], q]) if self.separable else q


class Logarithmic(Law):
    """L = a - b ln x in one variable: without a floor and negative in the end; an alternative to the power laws."""

    def __init__(self, variable: str) -> None:
        super().__init__(
            name="logarithmic",
            formula=f"L = a - b ln {check_variable(variable)}",
            source="arXiv:2605.28940",
            variables=(variable,),
            parameters=(
                Parameter("a", f"loss at {variable} = 1", "nats", lower=-np.inf),
                Parameter("b", f"fall per e-fold of {variable}", "nats"),
            ),
        )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        jacobian = np.ones((len(q), 2, u.shape[1]))
        jacobian[:, 1] = -u[0]
        return q[:, :1] - q[:, 1:] * u[0], jacobian

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.array([[1.0, centre[0]], [0.0, 1.0]]), np.zeros(2)

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        level = np.average(y, weights=weight)
        # Steeper lines would be negative at the end of the data, where the logarithm of the loss ends.
        steepest = min(2 * np.ptp(y) / max(np.ptp(u[0]), 1e-9), 0.9 * level / max(u[0].max(), 1e-9))
        return np.column_stack([np.full(count, level), spread(count, [0.0], [steepest], rng)])


class Kaplan(Law):
    """L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D (Kaplan et al., arXiv:2001.08361, eq. 1.5)."""

    def __init__(self) -> None:
        super().__init__(
            name="kaplan",
            formula="L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
            source="arXiv:2001.08361",
            variables=("N", "D"),
            parameters=(
                Parameter("N_c", "model size at which the loss is one nat", "parameters", log=True),
                Parameter("D_c", "data at which the loss is one nat", "data", log=True),
                exponent_parameter("alpha_N", "exponent of model size"),
                exponent_parameter("alpha_D", "exponent of data"),
            ),
            allocation=("alpha_N", "alpha_D"),
        )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        alpha_n, alpha_d = q[:, 2:3], q[:, 3:4]
        distance = q[:, 0:1] - u[0]
        first, second = (alpha_n / alpha_d) * distance, q[:, 1:2] - u[1]
        log_sum = np.logaddexp(first, second)
        share = np.exp(first - log_sum)
        f = np.exp(np.minimum(alpha_d * log_sum, 300.0))
        slopes = (alpha_n * share, alpha_d * (1 - share), share * distance, log_sum - share * first)
        return f, np.stack([f * slope for slope in slopes], axis=1)

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.eye(4), np.array([centre[0], centre[1], 0.0, 0.0])

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        low, high = super().bounds(u, y)
        low[:2], high[:2] = (
            -500.0,
            500.0,
        )  # ln N_c is ln L/alpha_N e-folds from the data: far for small exponents
        return low, high

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        box = spread(count, [np.log(0.02), np.log(0.02), 0.1], [0.0, 0.0, 0.9], rng)
        alpha_n, alpha_d, share = np.exp(box[:, 0]), np.exp(box[:, 1]), box[:, 2]
        # Meet the mean log loss at the centre of the data, split between the two terms.
        level = np.average(np.log(y), weights=weight)
        first, second = level / alpha_d + np.log(share), level / alpha_d + np.log1p(-share)
        return np.column_stack([first * alpha_d / alpha_n, second, alpha_n, alpha_d])

    def power_sum(self, values: Mapping[str, FloatArray]) -> PowerSum:
        alpha, power = values["alpha_N"] / values["alpha_D"], values["alpha_D"]
        one = np.ones_like(power)
        return PowerSum(0 * one, alpha * np.log(values["N_c"]), alpha, np.log(values["D_c"]), one, power)


class Rejection(Law):
    """R = A exp(B L) + C: background rejection as a function of the loss (Vigl et al., arXiv:2602.15781)."""

    def __init__(self) -> None:
        super().__init__(
            name="rejection",
            formula="R = A exp(B L) + C",
            source="arXiv:2602.15781",
            variables=("L",),
            parameters=(
                Parameter("A", "rejection above C extrapolated to zero loss", log=True),
                Parameter("B", "slope of ln rejection", "1/nat", lower=-1e3, upper=-1e-3),
                Parameter("C", "rejection at large loss", lower=0.0),
            ),
            response="R",
        )

    def transform(self, x: FloatArray) -> FloatArray:
        return x

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        term = np.exp(np.minimum(q[:, :1] + q[:, 1:2] * u[0], 300.0))
        jacobian = np.ones((len(q), 3, u.shape[1]))
        jacobian[:, 0] = term
        np.multiply(term, u[0], out=jacobian[:, 1])
        return term + q[:, 2:], jacobian

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:
        matrix = np.eye(3)
        matrix[0, 1] = -centre[0]
        return matrix, np.zeros(3)

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        low, high = super().bounds(u, y)
        high[2] = y.max()
        return low, high

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        slope = -np.exp(spread(count, [np.log(0.3)], [np.log(30.0)], rng)) / max(np.ptp(u[0]), 1e-9)
        slope = np.clip(slope, *(self.parameters[1].lower, self.parameters[1].upper))
        term = np.exp(slope * u[0])
        linear = project(np.stack([term, np.ones_like(term)], axis=1), y, weight / y**2)
        return np.column_stack([log_positive(linear[:, 0], y), slope[:, 0], linear[:, 1]])


#: Laws of given variables, by name.
FIXED: Mapping[str, Callable[[], Law]] = {
    "additive": Additive,
    "additive-tied": partial(Additive, tied=True),
    "kaplan": Kaplan,
    "rejection": Rejection,
}

#: Laws of one variable, which the caller chooses.
CURVES: Mapping[str, Callable[[str], Law]] = {
    "power": Power,
    "power-nofloor": partial(Power, floor=False),
    "logarithmic": Logarithmic,
}
