"""The law of data that are seen more than once: repeated data count less and less."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from eval.scaling.laws.forms import Additive
from eval.scaling.laws.law import Law, Parameter, spread

FloatArray = NDArray[np.float64]


class EffectiveData(Law):
    """L = E + A/N'^alpha + B/D'^beta with decaying returns (Muennighoff et al., arXiv:2305.16264, eqs. 5-10).

    D seen tokens of U unique ones count as D' = U + U R*_D (1 - exp(-(D/U - 1)/R*_D)); parameters beyond the
    compute-optimal N for U unique tokens decay likewise with R*_N.
    """

    def __init__(self) -> None:
        base = Additive()
        super().__init__(
            name="effective-data",
            formula="L = E + A/N'^alpha + B/D'^beta, D' = U (1 + R_D (1 - exp(-(D/U - 1)/R_D))), "
            "N' likewise beyond N_opt(U)",
            source="arXiv:2305.16264",
            variables=("N", "D", "U"),
            parameters=(
                *base.parameters,
                Parameter("R_D", "repetitions of data until their value falls to 1/e", log=True),
                Parameter("R_N", "excess of parameters until their value falls to 1/e", log=True),
            ),
            terms=base.terms,
            allocation=base.allocation,
            vary=False,  # D may equal U throughout, and the constants of the additive law may be fixed
        )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        a, alpha, b, beta = (q[:, i : i + 1] for i in (1, 2, 3, 4))
        r_d, r_n = np.exp(q[:, 5:6]), np.exp(q[:, 6:7])
        unique = np.minimum(u[1], u[2])
        # Compute-optimal allocation of U unique tokens: N_opt = G (U G)^(beta/alpha).
        log_g = (np.log(alpha / beta) + a - b) / (alpha + beta)
        optimum = log_g + (beta / alpha) * (unique + log_g)
        excess = u[0] > optimum
        base = np.where(excess, optimum, u[0])
        log_d, _, d_by_return = _diminished(u[1], unique, r_d)
        log_n, n_by_base, n_by_return = _diminished(u[0], base, r_n)
        model, data = np.exp(a - alpha * log_n), np.exp(b - beta * log_d)
        by_base = -alpha * model * np.where(excess, n_by_base, 0.0)
        ratio = 1 + beta / alpha
        jacobian = np.stack(
            [
                np.ones_like(model),
                model + by_base / alpha,
                -log_n * model
                + by_base
                * (ratio * (1 / alpha - log_g) / (alpha + beta) - beta / alpha**2 * (unique + log_g)),
                data - by_base / alpha,
                -log_d * data
                + by_base * (ratio * (-1 / beta - log_g) / (alpha + beta) + (unique + log_g) / alpha),
                -beta * data * d_by_return,
                -alpha * model * n_by_return,
            ],
            axis=1,
        )
        return q[:, :1] + model + data, jacobian

    def centre(self, u: FloatArray, weight: FloatArray) -> FloatArray:
        # D and U are one kind of data: both are counted in units of the typical D.
        n, d, _ = super().centre(u, weight)
        return np.array([n, d, d])

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        low, high = super().bounds(u, y)
        low[5:], high[5:] = np.log(1e-2), np.log(1e5)
        return low, high

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        base = Additive().starts(u[:2], y, weight, count, rng)
        return np.column_stack([base, spread(count, np.log([0.3, 0.3]), np.log([300.0, 300.0]), rng)])


def _diminished(
    amount: FloatArray, base: FloatArray, returns: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log of base (1 + R (1 - exp(-(amount/base - 1)/R))), and its derivatives by ln base and ln R."""
    repeats = np.maximum(np.expm1(np.minimum(amount - base, 50.0)), 0.0)
    decay = np.exp(-repeats / returns)
    gain = 1 + returns * -np.expm1(-repeats / returns)
    by_base = 1 - decay * (1 + repeats) / gain
    by_return = (returns * (1 - decay) - repeats * decay) / gain
    return base + np.log(gain), by_base, by_return


#: Laws of given variables, by name.
FIXED: Mapping[str, Callable[[], Law]] = {"effective-data": EffectiveData}
