"""Studies simulated in worlds in which the published statements hold, or fail by twice the difference that matters.

A design says which runs a study has, a world what is true, and a noise how runs scatter. Together they give the tables
that the study would have measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from eval.literature.design import Design, Noise, Run
from eval.literature.values import FULL_INPUTS, published
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]

#: Compute per parameter, jet and particle, and particles per jet, of C = 6 N D n_p.
FLOPS, PARTICLES = 6.0, 40.0

#: Passes over the unique jets after which the held-out loss of a run that overfits is lowest.
PASSES = 20.0

#: Shape of R(L) = A exp(B L) + C, as taggers of this project have it.
REJECTION = (2e4, -5.0, 4.0)


@dataclass(frozen=True)
class World:
    """What is true in a simulation.

    Attributes
    ----------
    alpha : float
        Exponent of N in the single-pass law of taggers. Its amplitudes are the published ones, adapted to the
        exponents such that each term keeps its size in the middle of the design.
    beta : float
        Exponent of D in this law.
    terms : float
        Factor on both of its terms.
    size_exponent : float
        lambda of N ~ U^lambda.
    size_slope : float
        Fall of the early-stopped loss per decade of N over that per decade of U.
    beta_shift : float
        Exponent of repeated data minus the published one.
    cost : float
        Compute of repeated data over the compute-optimal one at equal loss.
    slopes_apart : float
        Largest difference of the exponents of different inputs.
    rejection_scatter : float
        Scatter of ln R between taggers of equal loss.
    by_size : float
        Decrease of a generator's loss per decade of N, in nats per token, at the largest N and D.
    by_data : float
        Decrease of a generator's loss per decade of D.
    """

    alpha: float = published("alpha").value or 0.0
    beta: float = published("beta").value or 0.0
    terms: float = 1.0
    size_exponent: float = published("lambda").value or 0.0
    size_slope: float = 0.0
    beta_shift: float = 0.0
    cost: float = 10.0
    slopes_apart: float = 0.0
    rejection_scatter: float = 0.05
    by_size: float = 0.02
    by_data: float = 0.005


@dataclass(frozen=True, eq=False)
class Simulated:
    """Tables of one simulated study; None, or empty, for what its design does not have.

    Attributes
    ----------
    tagging : Points or None
        Single-pass losses of taggers.
    generation : Points or None
        Single-pass losses of generators.
    repeated : Points or None
        N, U, the early-stopped L and the compute up to the stop.
    curves : tuple of array of float
        Held-out losses of each repeated run.
    stopped : array of bool
        Repeated runs whose loss stopped falling before they were cut off.
    inputs : mapping of str to Points
        Early-stopped losses by inputs.
    losses : array of float
        Test loss of each single-pass tagger.
    kept : array of float
        Number of background jets that each single-pass tagger keeps.
    """

    tagging: Points | None = None
    generation: Points | None = None
    repeated: Points | None = None
    curves: tuple[FloatArray, ...] = ()
    stopped: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    inputs: Mapping[str, Points] = field(default_factory=dict)
    losses: FloatArray = field(default_factory=lambda: np.zeros(0))
    kept: FloatArray = field(default_factory=lambda: np.zeros(0))


def simulate_study(
    design: Design, world: World, noise: Mapping[str, Noise], rng: np.random.Generator
) -> Simulated:
    """Simulate the tables that a study of this design measures in this world.

    Parameters
    ----------
    design : Design
        The runs.
    world : World
        The truth.
    noise : mapping of str to Noise
        Scatter of "tagging" and "generation".
    rng : numpy.random.Generator
        Source of all random numbers.

    Returns
    -------
    Simulated
    """
    found = Simulated()
    if design.tagging:
        law = tagging_law(design, world)
        points = _single_pass(design.tagging, law, noise["tagging"], rng)
        losses = np.array([law(run.size, run.jets[-1:])[0] * noise["tagging"].path(run.jets[-1:], rng)[0]
                           for run in design.tagging])  # fmt: skip
        found = replace(
            found, tagging=points, losses=losses, kept=_kept(losses, design.background, world, rng)
        )
    if design.generation:
        law = generation_law(design, world)
        found = replace(found, generation=_single_pass(design.generation, law, noise["generation"], rng))
    if design.repetition:
        found = _repeated(found, design, world, noise["tagging"], rng)
    if design.inputs:
        found = replace(found, inputs=_inputs(design, world, noise["tagging"], rng))
    return found


def tagging_law(design: Design, world: World) -> SinglePassLaw:
    """Single-pass law of taggers in a world."""
    n, d = _middle(design.tagging)
    a = _number("A") * n ** (world.alpha - _number("alpha"))
    b = _number("B") * d ** (world.beta - _number("beta"))
    return SinglePassLaw(_number("L_inf"), world.terms * a, world.alpha, world.terms * b, world.beta)


def generation_law(design: Design, world: World) -> SinglePassLaw:
    """Single-pass law of generators in a world: exponents of 0.3, and the world's falls at the largest runs."""
    n = max(run.size for run in design.generation)
    d = max(float(run.jets[-1]) for run in design.generation)
    power, decade = 0.3, 0.3 * np.log(10)
    return SinglePassLaw(
        3.5, world.by_size / decade * n**power, power, world.by_data / decade * d**power, power
    )


@dataclass(frozen=True)
class SinglePassLaw:
    """L = E + A/N^alpha + B/D^beta."""

    floor: float
    a: float
    alpha: float
    b: float
    beta: float

    def __call__(self, n: float, d: FloatArray) -> FloatArray:
        """Losses of one size."""
        return np.asarray(self.floor + self.a * n**-self.alpha + self.b * d**-self.beta, dtype=np.float64)

    def compute_for(self, loss: float) -> float:
        """Least compute of a single pass to this loss (Hoffmann et al., arXiv:2203.15556, eq. 4)."""
        share = self.beta / (self.alpha + self.beta)  # of the excess loss that is due to N at the optimum
        excess = loss - self.floor
        n = (self.a / (excess * share)) ** (1 / self.alpha)
        d = (self.b / (excess * (1 - share))) ** (1 / self.beta)
        return float(FLOPS * PARTICLES * n * d)


def _single_pass(runs: tuple[Run, ...], law: SinglePassLaw, noise: Noise, rng: np.random.Generator) -> Points:
    parts = [law(run.size, run.jets) * noise.path(run.jets, rng) for run in runs]
    lengths = [len(run.jets) for run in runs]

    def column(values: list[float]) -> FloatArray:
        return np.repeat(np.array(values, dtype=np.float64), lengths)

    n, d = column([run.size for run in runs]), np.concatenate([run.jets for run in runs])
    names = [f"{run.size:.0f} {run.seed}" for run in runs]
    points = Points.from_arrays(
        N=n, D=d, L=np.concatenate(parts), C=FLOPS * PARTICLES * n * d,
        group=np.repeat(names, lengths), seed=np.repeat([str(run.seed) for run in runs], lengths),
    )  # fmt: skip
    blocks = [str(value) for value in column([run.blocks for run in runs])]
    return replace(points, extra={"N_blocks": blocks})


def _kept(losses: FloatArray, background: int, world: World, rng: np.random.Generator) -> FloatArray:
    amplitude, slope, constant = REJECTION
    mean = amplitude * np.exp(slope * losses) + constant
    mean = mean * np.exp(world.rejection_scatter * rng.standard_normal(len(losses)))
    return rng.binomial(background, np.minimum(1 / mean, 1.0)).astype(np.float64)


def _repeated(
    found: Simulated, design: Design, world: World, noise: Noise, rng: np.random.Generator
) -> Simulated:
    """Early-stopped losses of repeated data, with curves that rise where N is above the threshold."""
    single = tagging_law(design, world)
    n = np.array([run.size for run in design.repetition])
    u = np.array([run.unique for run in design.repetition])
    middle_n, middle_u = (float(np.exp(np.log(np.unique(x)).mean())) for x in (n, u))
    threshold = middle_n * (u / middle_u) ** world.size_exponent
    losses = _repeated_law(FULL_INPUTS, u, middle_u, world.beta_shift)
    fall = (
        np.log(10)
        * (_rep("beta_rep", FULL_INPUTS) + world.beta_shift)
        * (losses - _rep("L_inf_rep", FULL_INPUTS))
    )
    losses = losses - world.size_slope * fall * np.log10(n / middle_n)
    curves, stops, stopped = [], [], []
    for i, run in enumerate(design.repetition):
        x = np.log(run.jets / (PASSES * run.unique))
        above = max(float(np.log(n[i] / threshold[i])), 0.0)
        # Below its minimum the loss falls by a fifth per e-fold squared; above it rises with the excess of N.
        shape = 0.05 * np.minimum(x, 0.0) ** 2 + 0.1 * above * np.maximum(x, 0.0)
        small = np.exp(0.02 * noise.scatter * rng.standard_normal(len(x)))
        curves.append(losses[i] * noise.path(np.ones(1), rng) * np.exp(shape) * small)
        place = int(np.argmin(curves[-1]))
        stops.append(place)
        stopped.append(place < len(x) - 1)
    early = np.array([curve[place] for curve, place in zip(curves, stops, strict=True)])
    compute = (
        world.cost * np.array([single.compute_for(loss) for loss in losses]) * np.maximum(n / threshold, 1.0)
    )
    points = Points.from_arrays(
        N=n, U=u, D=[run.jets[p] for run, p in zip(design.repetition, stops, strict=True)], L=early, C=compute,
        seed=[str(run.seed) for run in design.repetition],
    )  # fmt: skip
    return replace(found, repeated=points, curves=tuple(curves), stopped=np.array(stopped))


def _inputs(design: Design, world: World, noise: Noise, rng: np.random.Generator) -> dict[str, Points]:
    tables = {}
    for i, (name, runs) in enumerate(design.inputs.items()):
        u = np.array([run.unique for run in runs])
        shift = world.slopes_apart * i / max(len(design.inputs) - 1, 1)
        middle = float(np.exp(np.log(np.unique(u)).mean()))
        loss = _repeated_law(name, u, middle, shift)
        loss = loss * np.exp(noise.scatter * rng.standard_normal(len(u)))
        tables[name] = Points.from_arrays(N=[run.size for run in runs], U=u, L=loss)
    return tables


def _repeated_law(inputs: str, u: FloatArray, middle: float, shift: float) -> FloatArray:
    """Published law of repeated data, its exponent moved about the middle of the design."""
    beta = _rep("beta_rep", inputs)
    return _rep("L_inf_rep", inputs) + _rep("B_rep", inputs) * middle**-beta * (u / middle) ** -(beta + shift)


def _rep(key: str, inputs: str) -> float:
    try:
        return published(key, variant=inputs).value or 0.0
    except KeyError:  # inputs that nobody published: those of the full set
        return published(key, variant=FULL_INPUTS).value or 0.0


def _number(key: str) -> float:
    return published(key).value or 0.0


def _middle(runs: tuple[Run, ...]) -> tuple[float, float]:
    """Geometric means of N and D over the runs."""
    return (
        float(np.exp(np.log([run.size for run in runs]).mean())),
        float(np.exp(np.log(np.concatenate([run.jets for run in runs])).mean())),
    )
