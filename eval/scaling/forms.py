"""The laws: each a small frozen object with formula, parameters, bounds, units and analytic gradient.

A law is evaluated in *coordinates*: the logarithm of parameters that are scales, the value of the others; and in
*transformed variables*: ln x (the rejection law alone uses x itself). Fits subtract the mean of each transformed
variable first, because A and alpha of A/N^alpha are almost perfectly correlated when N is counted in units of
one parameter and almost uncorrelated when it is counted in units of the typical model. All laws keep their
form under this change of units, so it is an affine map of coordinates (``Law.centring``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.errors import InputError

FloatArray = NDArray[np.float64]

EXPONENT_BOUNDS = (1e-3, 5.0)


@dataclass(frozen=True)
class Parameter:
    """One constant of a law.

    Attributes
    ----------
    name, unit, meaning : str
    lower, upper : float
        Physical bounds of the value; fits add bounds taken from the data to scales.
    log : bool
        Fitted as its logarithm: a positive scale.
    decades : float
        A 95 % interval wider than this many decades means "not identified".
    """

    name: str
    meaning: str
    unit: str = ""
    lower: float = 0.0
    upper: float = np.inf
    log: bool = False
    decades: float = 1.0


def _exponent(name: str, meaning: str) -> Parameter:
    return Parameter(name, meaning, lower=EXPONENT_BOUNDS[0], upper=EXPONENT_BOUNDS[1])


def _amplitude(name: str, meaning: str) -> Parameter:
    # Value at x = 1, far outside the data: two decades of spread still leave the law useful inside it.
    return Parameter(name, meaning, unit="nats", log=True, decades=2.0)


_FLOOR = Parameter("E", "loss that no model or data removes", unit="nats")


class Law:
    """Base of all laws; subclasses are frozen dataclasses and define ``evaluate``, ``centring``, ``starts``."""

    name: str
    formula: str
    source: str
    parameters: tuple[Parameter, ...]
    variables: tuple[str, ...]
    response: str = "L"

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.parameters)

    def transform(self, x: FloatArray) -> FloatArray:
        """Variables as the law uses them: ln x."""
        return np.log(x)

    def centre(self, u: FloatArray, weight: FloatArray) -> FloatArray:
        """Typical value (k,) of each transformed variable (k, n), about which a fit works."""
        return np.average(u, axis=1, weights=weight)

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values (S, n) and gradient (S, p, n) by coordinate, for coordinates (S, p) and variables (k, n)."""
        raise NotImplementedError

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Matrix (p, p) and offset (p,) from coordinates about ``centre`` (k,) to natural coordinates."""
        raise NotImplementedError

    def starts(
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        """Coordinates (count, p) from which a global search about centred variables begins."""
        raise NotImplementedError

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Box (p,), (p,) of the coordinates about centred variables ``u`` (k, n), responses ``y`` (n,)."""
        low, high = np.empty(self.size), np.empty(self.size)
        for i, p in enumerate(self.parameters):
            if p.log:
                # At the centre of the data a term below 1e-8 of the loss is absent; one of 1e4 never occurs.
                low[i], high[i] = np.log(1e-8 * y.min()), np.log(1e4 * y.max())
            elif p.name == "E":
                low[i], high[i] = p.lower, y.max()
            else:
                low[i], high[i] = p.lower, p.upper
        return low, high

    def coordinates(self, values: ArrayLike) -> FloatArray:
        """Coordinates of natural parameter values, (..., p) to (..., p)."""
        q = np.array(values, dtype=np.float64)
        for i, p in enumerate(self.parameters):
            if p.log:
                q[..., i] = np.log(q[..., i])
        return q

    def values(self, q: ArrayLike) -> FloatArray:
        """Natural parameter values of coordinates, (..., p) to (..., p)."""
        values = np.array(q, dtype=np.float64)
        for i, p in enumerate(self.parameters):
            if p.log:
                values[..., i] = np.exp(values[..., i])
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
        """Value of the law.

        Parameters
        ----------
        values : mapping or array-like, shape (p,) or (S, p)
            Natural parameters, by name or in order; several sets give a leading axis.
        **x : array-like
            Variables by name, broadcast together: ``law.predict(values, N=1e6, D=[1e6, 1e7])``.
        """
        q, u, shape = self._inputs(values, x)
        f, _ = self.evaluate(q, u)
        single = isinstance(values, Mapping) or np.ndim(values) == 1
        return f[0].reshape(shape) if single else f.reshape(len(f), *shape)

    def gradient(self, values: Mapping[str, float] | ArrayLike, **x: ArrayLike) -> FloatArray:
        """Derivative of the law by each natural parameter; shape (p, *x)."""
        q, u, shape = self._inputs(values, x)
        _, jacobian = self.evaluate(q[:1], u)
        natural = self.values(q[0])
        scale = np.array([1 / natural[i] if p.log else 1.0 for i, p in enumerate(self.parameters)])
        return (jacobian[0] * scale[:, None]).reshape(self.size, *shape)


def project(basis: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Least squares with coefficients >= 0 for many bases at once: (S, m, n), (n,), (n,) to (S, m).

    Variable projection: for given exponents the additive laws are linear in the rest. With m <= 3 terms
    trying every subset of them is exact and stays one batched solve per subset.
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
    """Evenly spread points of a box, shape (count, k): a randomly shifted R_k sequence (Roberts 2018)."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    k = len(low)
    ratio = 2.0
    for _ in range(60):  # the positive root of x^(k+1) = x + 1 generalises the golden ratio
        ratio = (1 + ratio) ** (1 / (k + 1))
    steps = ratio ** -np.arange(1.0, k + 1)
    unit = (rng.random(k) + np.outer(np.arange(count), steps)) % 1.0
    return low + unit * (high - low)


def _log_positive(amplitude: FloatArray, y: FloatArray) -> FloatArray:
    """Log of projected amplitudes; zero ones start at a thousandth of the loss, where they can still grow."""
    return np.log(np.maximum(amplitude, 1e-3 * y.min()))


@dataclass(frozen=True)
class Additive(Law):
    """L = E + A/N^alpha + B/D^beta, exponents free or tied (Hoffmann et al., arXiv:2203.15556, eq. 2)."""

    tied: bool = False
    variables: tuple[str, ...] = ("N", "D")
    source: str = "arXiv:2203.15556"

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name on the command line."""
        return "additive-tied" if self.tied else "additive"

    @property
    def formula(self) -> str:  # type: ignore[override]
        """The law in words a report can print."""
        return f"L = E + A/N^alpha + B/D^{'alpha' if self.tied else 'beta'}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """E, A, alpha, B and, unless tied, beta."""
        alpha = _exponent("alpha", "exponent of model size")
        first = (_FLOOR, _amplitude("A", "model-size term at N = 1"), alpha)
        data = _amplitude("B", "data term at D = 1")
        return (*first, data) if self.tied else (*first, data, _exponent("beta", "exponent of data"))

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        alpha, beta = q[:, 2:3], q[:, 2:3] if self.tied else q[:, 4:5]
        model = np.exp(q[:, 1:2] - alpha * u[0])
        data = np.exp(q[:, 3:4] - beta * u[1])
        jacobian = np.empty((len(q), self.size, u.shape[1]))
        jacobian[:, 0] = 1.0
        jacobian[:, 1] = model
        np.multiply(model, -u[0], out=jacobian[:, 2])
        jacobian[:, 3] = data
        if self.tied:
            jacobian[:, 2] -= data * u[1]
        else:
            np.multiply(data, -u[1], out=jacobian[:, 4])
        return q[:, 0:1] + model + data, jacobian

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        matrix = np.eye(self.size)
        matrix[1, 2] = centre[0]
        matrix[3, 2 if self.tied else 4] = centre[1]
        return matrix, np.zeros(self.size)

    def starts(  # noqa: D102
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        exponents = np.exp(spread(count, np.log([0.03, 0.03]), np.log([2.0, 2.0]), rng))
        if self.tied:
            exponents[:, 1] = exponents[:, 0]
        basis = np.stack(
            [np.ones((count, len(y))), np.exp(-exponents[:, :1] * u[0]), np.exp(-exponents[:, 1:] * u[1])],
            axis=1,
        )
        linear = project(basis, y, weight / y**2)
        q = np.column_stack(
            [linear[:, 0], _log_positive(linear[:, 1], y), exponents[:, 0], _log_positive(linear[:, 2], y)]
        )
        return q if self.tied else np.column_stack([q, exponents[:, 1]])


_POWER_NAMES = {"N": ("A", "alpha"), "D": ("B", "beta"), "C": ("K", "gamma"), "U": ("B", "beta")}


def _check_variable(variable: str) -> None:
    if variable not in _POWER_NAMES:
        raise InputError(f"variable: {variable} is not one of {', '.join(_POWER_NAMES)}")


@dataclass(frozen=True)
class Power(Law):
    """L = E + A/x^alpha in one variable, with or without floor.

    The constants are called A, alpha on N; B, beta on D or U; K, gamma on C. On U (unique data) with the
    early-stopped loss of repeated training it is eq. 4 of Vigl et al., arXiv:2602.15781.
    """

    variable: str = "N"
    floor: bool = True
    source: str = "arXiv:2001.08361"

    def __post_init__(self) -> None:
        _check_variable(self.variable)

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name on the command line."""
        return "power" if self.floor else "power-nofloor"

    @property
    def variables(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one variable."""
        return (self.variable,)

    @property
    def formula(self) -> str:  # type: ignore[override]
        """The law in words a report can print."""
        amplitude, exponent = _POWER_NAMES[self.variable]
        return f"L = {'E + ' if self.floor else ''}{amplitude}/{self.variable}^{exponent}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """(E), amplitude and exponent."""
        amplitude, exponent = _POWER_NAMES[self.variable]
        term = (
            _amplitude(amplitude, f"term at {self.variable} = 1"),
            _exponent(exponent, f"exponent of {self.variable}"),
        )
        return (_FLOOR, *term) if self.floor else term

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        i = int(self.floor)
        term = np.exp(q[:, i : i + 1] - q[:, i + 1 : i + 2] * u[0])
        jacobian = np.ones((len(q), self.size, u.shape[1]))
        jacobian[:, i] = term
        np.multiply(term, -u[0], out=jacobian[:, i + 1])
        return (q[:, :1] + term if self.floor else term), jacobian

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        matrix = np.eye(self.size)
        matrix[-2, -1] = centre[0]
        return matrix, np.zeros(self.size)

    def starts(  # noqa: D102
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        exponent = np.exp(spread(count, [np.log(0.01)], [np.log(3.0)], rng))
        terms = [np.exp(-exponent * u[0])]
        if self.floor:
            terms.insert(0, np.ones_like(terms[0]))
        linear = project(np.stack(terms, axis=1), y, weight / y**2)
        q = np.column_stack([_log_positive(linear[:, -1], y), exponent[:, 0]])
        return np.column_stack([linear[:, 0], q]) if self.floor else q


@dataclass(frozen=True)
class Logarithmic(Law):
    """L = a - b ln x in one variable: no floor, and negative in the end; a foil for the power laws."""

    variable: str = "N"
    name: str = "logarithmic"
    source: str = "arXiv:2605.28940"

    def __post_init__(self) -> None:
        _check_variable(self.variable)

    @property
    def variables(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one variable."""
        return (self.variable,)

    @property
    def formula(self) -> str:  # type: ignore[override]
        """The law in words a report can print."""
        return f"L = a - b ln {self.variable}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """A and b."""
        return (
            Parameter("a", f"loss at {self.variable} = 1", "nats", lower=-np.inf),
            Parameter("b", f"fall per e-fold of {self.variable}", "nats"),
        )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        jacobian = np.ones((len(q), 2, u.shape[1]))
        jacobian[:, 1] = -u[0]
        return q[:, :1] - q[:, 1:] * u[0], jacobian

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        return np.array([[1.0, centre[0]], [0.0, 1.0]]), np.zeros(2)

    def starts(  # noqa: D102
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        slope = spread(count, [0.0], [2 * np.ptp(y) / max(np.ptp(u[0]), 1e-9)], rng)[:, 0]
        return np.column_stack([np.full(count, np.average(y, weights=weight)), slope])


@dataclass(frozen=True)
class Kaplan(Law):
    """L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D (Kaplan et al., arXiv:2001.08361, eq. 1.5)."""

    name: str = "kaplan"
    formula: str = "L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D"
    source: str = "arXiv:2001.08361"
    variables: tuple[str, ...] = ("N", "D")
    parameters: tuple[Parameter, ...] = (
        Parameter("N_c", "model size at which the loss is one nat", "parameters", log=True, decades=4.0),
        Parameter("D_c", "data at which the loss is one nat", "data", log=True, decades=4.0),
        _exponent("alpha_N", "exponent of model size"),
        _exponent("alpha_D", "exponent of data"),
    )

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        alpha_n, alpha_d = q[:, 2:3], q[:, 3:4]
        distance = q[:, 0:1] - u[0]
        first, second = (alpha_n / alpha_d) * distance, q[:, 1:2] - u[1]
        log_sum = np.logaddexp(first, second)
        share = np.exp(first - log_sum)
        f = np.exp(np.minimum(alpha_d * log_sum, 300.0))
        slopes = (
            alpha_n * share,
            alpha_d * (1 - share),
            share * distance,
            log_sum - share * first,
        )
        return f, np.stack([f * slope for slope in slopes], axis=1)

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        return np.eye(4), np.array([centre[0], centre[1], 0.0, 0.0])

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        # ln N_c is ln L/alpha_N e-folds from the data: far for the small exponents that occur.
        return np.array([-500.0, -500.0, *[EXPONENT_BOUNDS[0]] * 2]), np.array([500.0, 500.0, 5.0, 5.0])

    def starts(  # noqa: D102
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        box = spread(count, [np.log(0.02), np.log(0.02), 0.1], [0.0, 0.0, 0.9], rng)
        alpha_n, alpha_d, share = np.exp(box[:, 0]), np.exp(box[:, 1]), box[:, 2]
        # Meet the mean log loss at the centre of the data, split between the two terms.
        level = np.average(np.log(y), weights=weight)
        first, second = level / alpha_d + np.log(share), level / alpha_d + np.log1p(-share)
        return np.column_stack([first * alpha_d / alpha_n, second, alpha_n, alpha_d])


@dataclass(frozen=True)
class Rejection(Law):
    """R = A exp(B L) + C: background rejection as a function of the loss (Vigl et al., arXiv:2602.15781)."""

    name: str = "rejection"
    formula: str = "R = A exp(B L) + C"
    source: str = "arXiv:2602.15781"
    variables: tuple[str, ...] = ("L",)
    response: str = "R"
    parameters: tuple[Parameter, ...] = (
        Parameter("A", "rejection above C extrapolated to zero loss", log=True, decades=2.0),
        Parameter("B", "slope of ln rejection", "1/nat", lower=-1e3, upper=-1e-3),
        Parameter("C", "rejection at large loss", lower=0.0),
    )

    def transform(self, x: FloatArray) -> FloatArray:  # noqa: D102
        return x

    def evaluate(self, q: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        term = np.exp(np.minimum(q[:, :1] + q[:, 1:2] * u[0], 300.0))
        jacobian = np.ones((len(q), 3, u.shape[1]))
        jacobian[:, 0] = term
        np.multiply(term, u[0], out=jacobian[:, 1])
        return term + q[:, 2:], jacobian

    def centring(self, centre: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        matrix = np.eye(3)
        matrix[0, 1] = -centre[0]
        return matrix, np.zeros(3)

    def bounds(self, u: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        low, high = super().bounds(u, y)
        high[2] = y.max()
        return low, high

    def starts(  # noqa: D102
        self, u: FloatArray, y: FloatArray, weight: FloatArray, count: int, rng: np.random.Generator
    ) -> FloatArray:
        slope = -np.exp(spread(count, [np.log(0.3)], [np.log(30.0)], rng)) / max(np.ptp(u[0]), 1e-9)
        slope = np.clip(slope, *(self.parameters[1].lower, self.parameters[1].upper))
        term = np.exp(slope * u[0])
        linear = project(np.stack([term, np.ones_like(term)], axis=1), y, weight / y**2)
        return np.column_stack([_log_positive(linear[:, 0], y), slope[:, 0], linear[:, 1]])


def get_law(name: str, variable: str | None = None) -> Law:
    """Law by the name used on the command line and in ``fit.json``.

    ``variable`` (N, D, C or U) belongs to the laws of one variable: power, power-nofloor, logarithmic, broken, m4.

    Raises
    ------
    InputError
        Unknown name, or a variable missing or superfluous.
    """
    from eval.scaling.breaks import M4, BrokenPower
    from eval.scaling.repetition import EffectiveData

    surfaces = {
        "additive": Additive(),
        "additive-tied": Additive(tied=True),
        "kaplan": Kaplan(),
        "effective-data": EffectiveData(),
        "rejection": Rejection(),
    }
    if name in surfaces:
        if variable is not None:
            raise InputError(f"law {name}: takes no variable, found {variable}")
        return surfaces[name]
    curves = ("power", "power-nofloor", "logarithmic", "broken", "m4")
    if name not in curves:
        raise InputError(f"law: {name} is not one of {', '.join((*surfaces, *curves))}")
    if variable is None:
        raise InputError(f"law {name}: needs a variable, one of {', '.join(_POWER_NAMES)}")
    _check_variable(variable)
    return {
        "power": Power(variable),
        "power-nofloor": Power(variable, floor=False),
        "logarithmic": Logarithmic(variable),
        "broken": BrokenPower(variable),
        "m4": M4(variable),
    }[name]
