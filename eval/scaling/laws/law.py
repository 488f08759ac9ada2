"""What a scaling law is: its constants as data, and three functions: its values, its starts and its change of units.

A law is evaluated in *coordinates*, which are the logarithms of the constants that are scales and the values of the
others, and in *transformed variables*, ln x (only the rejection law uses x itself). Fits first subtract the mean of
each transformed variable, because A and alpha of A/N^alpha are almost perfectly correlated if N is counted in units of
one parameter, and almost uncorrelated if it is counted in units of the typical model. All laws keep their form under
this change of units, so that it is an affine map of the coordinates (``Law.centring``).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError
from eval.common.results import Kind

FloatArray = NDArray[np.float64]

EXPONENT_BOUNDS = (1e-3, 5.0)


@dataclass(frozen=True)
class Parameter:
    """One constant of a law.

    Attributes
    ----------
    name : str
        Symbol of the constant.
    meaning : str
        What it stands for.
    unit : str
        Its unit.
    lower : float
        Lower physical bound; fits add bounds from the data for scales.
    upper : float
        Upper physical bound.
    log : bool
        Whether its logarithm is fitted, as for positive scales.
    kind : {"scale", "exponent"}
        The rule by which it is identified (see `eval.common.results.Estimate.judged`).
    """

    name: str
    meaning: str
    unit: str = ""
    lower: float = 0.0
    upper: float = np.inf
    log: bool = False
    kind: Kind = "scale"


def exponent_parameter(name: str, meaning: str) -> Parameter:
    """Return an exponent, bounded between a thousandth and five."""
    return Parameter(name, meaning, lower=EXPONENT_BOUNDS[0], upper=EXPONENT_BOUNDS[1], kind="exponent")


def scale_at_one(name: str, meaning: str) -> Parameter:
    """Return an amplitude: the value of a power-law term at x = 1."""
    return Parameter(name, meaning, unit="nats", log=True)


FLOOR = Parameter("E", "irreducible loss, which remains at any model size and amount of data", unit="nats")


class Term(NamedTuple):
    """A power-law term of a law: amplitude / variable^exponent, by the names of its constants."""

    variable: str
    amplitude: str
    exponent: str


class PowerSum(NamedTuple):
    """L = (floor + A/N^alpha + B/D^beta)^power with the constants of one law, one array element for each fit."""

    floor: FloatArray
    log_a: FloatArray
    alpha: FloatArray
    log_b: FloatArray
    beta: FloatArray
    power: FloatArray


@dataclass(frozen=True)
class Law(ABC):
    """Base class of all laws; subclasses give the data and define ``evaluate`` and ``starts``.

    Attributes
    ----------
    name : str
        Name on the command line and in ``fit.json``.
    formula : str
        The law as a report prints it.
    source : str
        Where it was published.
    variables : tuple of str
        Its variables, among N, D, C, U and L.
    parameters : tuple of Parameter
        Its constants, in order.
    terms : tuple of Term
        Its power-law terms. An amplitude is not determined without its exponent, nor the reverse.
    separable : bool
        Whether the law is E plus these terms and nothing else, so that each variable has a term of its own.
    allocation : tuple of (str, str) or None
        Names of the exponents of N and D that decide how compute is divided between them; None if nothing is divided.
    vary : bool
        Whether the points must have several values of each variable.
    response : str
        What the law predicts: the loss L, or the rejection R.
    """

    name: str
    formula: str
    source: str
    variables: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    terms: tuple[Term, ...] = ()
    separable: bool = False
    allocation: tuple[str, str] | None = None
    vary: bool = True
    response: str = "L"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the constants in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def size(self) -> int:
        """Number of constants."""
        return len(self.parameters)

    @abstractmethod
    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values (S, n) and their gradient (S, p, n) at coordinates (S, p) and variables (k, n)."""

    @abstractmethod
    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        """Return coordinates (count, p) from which a global search in centred variables begins."""

    def transform(self, x: FloatArray) -> FloatArray:
        """Return the transformed variables: ln x."""
        return np.log(x)

    def centre(self, u: FloatArray, weight: FloatArray) -> FloatArray:
        """Return the typical value (k,) of each transformed variable (k, n), which a fit subtracts."""
        return np.average(u, axis=1, weights=weight)

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return matrix (p, p) and offset (p,) of the map from centred to natural coordinates.

        About ``centre`` (k,) the amplitude of a term is that at the typical x: ln A = ln A_c + alpha <ln x>.
        """
        matrix = np.eye(self.size)
        for variable, amplitude, exponent in self.terms:
            row, column = self.names.index(amplitude), self.names.index(exponent)
            matrix[row, column] = centre[self.variables.index(variable)]
        return matrix, np.zeros(self.size)

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return lower and upper bounds (p,) of centred coordinates, for variables (k, n) and responses ``y`` (n,)."""
        low, high = np.empty(self.size), np.empty(self.size)
        for i, p in enumerate(self.parameters):
            if p.log:
                # At the centre of the data a term below 1e-8 of the loss is negligible; one of 1e4 never occurs.
                low[i], high[i] = np.log(1e-8 * y.min()), np.log(1e4 * y.max())
            elif p.name == "E":
                low[i], high[i] = p.lower, y.max()
            else:
                low[i], high[i] = p.lower, p.upper
        return low, high

    def power_sum(self, values: Mapping[str, FloatArray]) -> PowerSum:
        """Return the law as a function of N and D, from arrays of its constants.

        Parameters
        ----------
        values : mapping of str to array of float
            Constants of several fits by name.

        Returns
        -------
        PowerSum

        Raises
        ------
        InputError
            The law does not have a term in N and one in D.
        """
        of = {term.variable: term for term in self.terms}
        if not {"N", "D"} <= set(of):
            raise InputError(f"law {self.name}: has no N and D to trade; fit law additive")
        n, d = of["N"], of["D"]
        log_a, log_b = np.log(values[n.amplitude]), np.log(values[d.amplitude])
        return PowerSum(
            values["E"], log_a, values[n.exponent], log_b, values[d.exponent], np.ones_like(values["E"])
        )

    def coordinates(self, values: ArrayLike) -> FloatArray:
        """Return the coordinates of natural parameter values, (..., p) to (..., p)."""
        q = np.array(values, dtype=np.float64)
        for i, p in enumerate(self.parameters):
            if p.log:
                q[..., i] = np.log(q[..., i])
        return q

    def values(self, q: ArrayLike) -> FloatArray:
        """Return the natural parameter values of coordinates, (..., p) to (..., p)."""
        values = np.array(q, dtype=np.float64)
        for i, p in enumerate(self.parameters):
            if p.log:
                values[..., i] = np.exp(np.minimum(values[..., i], 700.0))  # within the range of floats
        return values

    def _inputs(
        self, values: Mapping[str, float] | ArrayLike, x: Mapping[str, ArrayLike]
    ) -> tuple[FloatArray, FloatArray, tuple[int, ...]]:
        if isinstance(values, Mapping):
            values = np.array([values[name] for name in self.names])
        missing = [name for name in self.variables if name not in x]
        if missing:
            raise InputError(f"law {self.name}: needs {', '.join(self.variables)}; {missing[0]} is missing")
        arrays = np.broadcast_arrays(*(np.asarray(x[name], dtype=np.float64) for name in self.variables))
        u = self.transform(np.stack([a.ravel() for a in arrays]))
        return np.atleast_2d(self.coordinates(values)), u, arrays[0].shape

    def predict(self, values: Mapping[str, float] | ArrayLike, **x: ArrayLike) -> FloatArray:
        """Return the value of the law.

        Parameters
        ----------
        values : mapping of str to float, or array-like of float, shape (p,) or (S, p)
            Natural parameters, by name or in order; several sets give a leading axis.
        **x : array-like of float
            Variables by name, which are broadcast: ``law.predict(values, N=1e6, D=[1e6, 1e7])``.

        Returns
        -------
        array of float
        """
        q, u, shape = self._inputs(values, x)
        f, _ = self.evaluate(q, u)
        single = isinstance(values, Mapping) or np.ndim(values) == 1
        return f[0].reshape(shape) if single else f.reshape(len(f), *shape)

    def gradient(self, values: Mapping[str, float] | ArrayLike, **x: ArrayLike) -> FloatArray:
        """Return the derivative of the law with respect to each natural parameter, shape (p, *x)."""
        q, u, shape = self._inputs(values, x)
        _, jacobian = self.evaluate(q[:1], u)
        natural = self.values(q[0])
        scale = np.array([1 / natural[i] if p.log else 1.0 for i, p in enumerate(self.parameters)])
        return (jacobian[0] * scale[:, None]).reshape(self.size, *shape)


def project(basis: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Solve least squares with coefficients >= 0 for many bases at once: (S, m, n), (n,), (n,) to (S, m).

    This is variable projection: for given exponents the additive laws are linear in the other constants. With m <= 3
    terms, trying every subset of them is exact and takes one batched solution per subset.
    """
    size, m, _ = basis.shape
    weighted = basis * weight
    normal = weighted @ basis.transpose(0, 2, 1)
    right = weighted @ y
    best = np.zeros((size, m))
    lowest = np.full(size, np.inf)
    for subset in range(1, 2**m):
        use = [i for i in range(m) if subset >> i & 1]
        sub = normal[:, use][:, :, use] + 1e-13 * normal[:, use, use].max() * np.eye(len(use))
        solution = np.linalg.solve(sub, right[:, use, None])[..., 0]
        # y.y - c.right is the squared error of the unconstrained optimum on this subset.
        error = -np.einsum("sm,sm->s", solution, right[:, use])
        better = (solution >= 0).all(axis=1) & (error < lowest)
        lowest[better] = error[better]
        full = np.zeros((size, m))
        full[:, use] = solution
        best[better] = full[better]
    return best


def spread(count: int, low: ArrayLike, high: ArrayLike, rng: np.random.Generator) -> FloatArray:
    """Return evenly spread points of a box, shape (count, k): a randomly shifted R_k sequence (Roberts 2018)."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    k = len(low)
    ratio = 2.0
    for _ in range(60):  # the positive root of x^(k+1) = x + 1 generalises the golden ratio
        ratio = (1 + ratio) ** (1 / (k + 1))
    steps = ratio ** -np.arange(1.0, k + 1)
    unit = (rng.random(k) + np.outer(np.arange(count), steps)) % 1.0
    return low + unit * (high - low)


def log_positive(amplitude: FloatArray, y: FloatArray) -> FloatArray:
    """Return ln of projected amplitudes; those of zero start at a thousandth of the loss, from where they can grow."""
    return np.log(np.maximum(amplitude, 1e-3 * y.min()))
