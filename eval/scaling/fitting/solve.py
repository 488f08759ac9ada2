"""Minimise an objective of a law from many starts, for many weightings of the points, all at once.

One batched Levenberg-Marquardt iteration serves the multi-start search, the bootstrap (whose resamples are
weights of the same points) and the profile (whose scan points are starts with one coordinate fixed).

With residuals above the Huber threshold the objective is close to a sum of absolute values. Its Newton matrix is made
of the few points below the threshold; the matrix of iteratively reweighted least squares is an upper bound of it. The
damping interpolates between the two: the first makes the last steps fast, the second makes every step after a
rejected one safer. Half of the starts lower the threshold in stages and the others use it at once, because a smoothed
objective can hide a minimum as well as remove a spurious one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from eval.scaling.fitting.objective import Objective, best_scale, huber, negative_log_likelihood
from eval.scaling.fitting.problem import Problem

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SAME_MINIMUM = 1e-6
"""Two objectives closer than this relative difference are one minimum."""


@dataclass(frozen=True)
class Minima:
    """End points of a batch: coordinates (S, p), objectives (S,), and whether each converged (S,)."""

    q: FloatArray
    value: FloatArray
    converged: BoolArray


def _residual_and_jacobian(
    problem: Problem, q: FloatArray, target: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return residuals (S, n) and their derivatives (S, p, n); ``target`` comes from `_target`."""
    with np.errstate(all="ignore"):  # a trial step may leave the law's domain; it is rejected by its value
        f, jacobian = problem.law.evaluate(q, problem.u)
        if not problem.objective.log:
            return f - target, jacobian
        positive = np.where(f > 0, f, np.nan)
        jacobian /= positive[:, None, :]
        return np.log(positive) - target, jacobian


def _target(problem: Problem, y: FloatArray) -> FloatArray:
    return np.log(y) if problem.objective.log else y


def descend(
    problem: Problem,
    q: FloatArray,
    weight: FloatArray | None = None,
    *,
    delta: float | FloatArray | None = None,
    fixed: FloatArray | None = None,
    y: FloatArray | None = None,
    iterations: int = 200,
    tolerance: float = 1e-13,
) -> Minima:
    """Descend from ``q`` (S, p) by batched damped Newton steps.

    Weights and responses ``y`` have the shape (S, n), thresholds ``delta`` (S,).
    """
    size, n = len(q), len(problem.y)
    threshold = np.broadcast_to(
        np.asarray(problem.objective.threshold if delta is None else delta, dtype=np.float64), (size,)
    )
    weights = np.broadcast_to(problem.weight if weight is None else weight, (size, n))
    fixed_rows = None if fixed is None else np.broadcast_to(fixed, (size, len(problem.free)))
    end, value = np.array(q, dtype=np.float64), np.empty(size)
    converged = np.zeros(size, dtype=bool)
    # Blocks, so that the Jacobians fit into the processor's cache.
    block = max(8, 24_000 // n)
    for first in range(0, size, block):
        part = slice(first, first + block)
        end[part], value[part], converged[part] = _descend_block(
            problem,
            end[part],
            weights[part],
            threshold[part],
            None if fixed_rows is None else fixed_rows[part],
            None if y is None else y[part],
            iterations,
            tolerance,
        )
    return Minima(end, value, converged)


def _descend_block(
    problem: Problem,
    q: FloatArray,
    weight: FloatArray,
    delta: FloatArray,
    fixed: FloatArray | None,
    y: FloatArray | None,
    iterations: int,
    tolerance: float,
) -> tuple[FloatArray, FloatArray, BoolArray]:
    size = len(q)
    basis, offset = problem.reduction(fixed)
    offset = np.broadcast_to(offset, q.shape)
    low, high = problem.low[problem.free], problem.high[problem.free]
    z = np.clip(q[:, problem.free], low, high)
    everything_free = bool(problem.free.all())
    target = np.broadcast_to(_target(problem, problem.y if y is None else y), weight.shape)
    # Rounding of ln f leaves residuals of about 1e-16: an objective below this is exact.
    floor = 1e-31 * weight.sum(axis=1)

    def full(z: FloatArray, rows: FloatArray) -> FloatArray:
        return z if everything_free else rows + z @ basis.T

    def model(z: FloatArray, rows: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
        residual, jacobian = _residual_and_jacobian(problem, full(z, rows), target)
        return residual, jacobian if everything_free else np.matmul(basis.T, jacobian)

    def measure(residual: FloatArray, weight: FloatArray, delta: FloatArray) -> FloatArray:
        total = np.einsum("sn,sn->s", weight, huber(residual, delta[:, None]))
        return np.where(np.isfinite(total), total, np.inf)

    out_z, out_value, out_converged = z.copy(), np.full(size, np.inf), np.zeros(size, dtype=bool)
    live = np.arange(size)
    damping, growth = np.full(size, 1e-2), np.full(size, 2.0)
    residual, jacobian = model(z, offset, target)
    value = measure(residual, weight, delta)
    for _ in range(iterations):
        d = delta[:, None]
        absolute = np.abs(residual)
        inside = absolute <= d
        reweight = np.where(inside, 1.0, d / np.maximum(absolute, d)) if np.isfinite(delta).any() else 1.0
        slope = weight * reweight * residual
        gradient = np.matmul(jacobian, slope[:, :, None])[..., 0]
        curvature = weight * (inside + damping[:, None] * reweight)
        hessian = np.matmul(jacobian * curvature[:, None, :], jacobian.transpose(0, 2, 1))
        diagonal = np.einsum("spp->sp", hessian)
        # A direction that no point constrains (the exponent of an absent term) gets a unit entry and does not move.
        tiny = 1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-300
        diagonal += damping[:, None] * diagonal + tiny
        blocked = ((z <= low) & (gradient > 0)) | ((z >= high) & (gradient < 0))
        gradient = np.where(blocked, 0.0, gradient)
        moving = ~blocked
        hessian *= moving[:, :, None] & moving[:, None, :]
        diagonal += blocked
        bad = ~np.isfinite(hessian).all(axis=(1, 2)) | ~np.isfinite(gradient).all(axis=1)
        hessian[bad], gradient[bad] = np.eye(z.shape[1]), 0.0
        scale = 1 / np.sqrt(np.einsum("spp->sp", hessian))
        scaled = hessian * scale[:, :, None] * scale[:, None, :]
        step = -scale * np.linalg.solve(scaled, (scale * gradient)[..., None])[..., 0]
        decrement = -np.einsum("sp,sp->s", gradient, step)
        trial = np.clip(z + step, low, high)
        new_residual, new_jacobian = model(trial, offset, target)
        new_value = measure(new_residual, weight, delta)
        with np.errstate(invalid="ignore"):  # both infinite: a start outside the law's domain, given up below
            gain = (value - new_value) / np.maximum(0.5 * decrement, 1e-300)
        accept = new_value < value
        z = np.where(accept[:, None], trial, z)
        value = np.where(accept, new_value, value)
        residual = np.where(accept[:, None], new_residual, residual)
        jacobian = np.where(accept[:, None, None], new_jacobian, jacobian)
        good, poor = accept & (gain > 0.5), ~accept | (gain < 0.1)
        damping = np.clip(np.where(good, damping / 6, np.where(poor, damping * growth, damping)), 1e-12, 1e14)
        growth = np.where(accept, 2.0, np.minimum(growth * 2, 64.0))
        settled = (decrement <= tolerance * value) & (damping < 1e4) | (value <= floor) | bad
        stuck = damping >= 1e13
        done = settled | stuck
        if done.any():
            out_z[live[done]], out_value[live[done]] = z[done], value[done]
            # If the damping grows without bound, floating point allows no further descent (at a kink).
            out_converged[live[done]] = (settled | stuck)[done] & np.isfinite(value[done])
            keep = ~done
            live, z, value, residual, jacobian = (a[keep] for a in (live, z, value, residual, jacobian))
            weight, delta, damping, growth = (a[keep] for a in (weight, delta, damping, growth))
            floor, offset, target = floor[keep], offset[keep], target[keep]
            if not live.size:
                break
    out_z[live], out_value[live] = z, value
    _, offsets = problem.reduction(fixed)
    return full(out_z, np.broadcast_to(offsets, q.shape)), out_value, out_converged


def _stages(objective: Objective, coarsest: float = np.inf) -> list[float]:
    """Return thresholds that decrease to the objective's own by factors of ten, from at most ``coarsest`` times it."""
    final = objective.threshold
    if not np.isfinite(final):
        return []
    return [float(d) for d in 0.1 ** np.arange(1.0, 12.0) if 3 * final < d <= 1.01 * coarsest * final]


def search(problem: Problem, starts: int, rng: np.random.Generator) -> Minima:
    """Global search: ``starts`` starts, half of them with continuation in the threshold."""
    q = problem.law.starts(problem.u, problem.y, problem.weight, starts, rng)
    q = np.clip(q, problem.low, problem.high)
    if problem.objective.kind == "huber-likelihood":
        return _search_likelihood(problem, q)
    return refine(problem, q, slice(0, None, 2))


def refine(
    problem: Problem,
    q: FloatArray,
    staged: slice,
    weight: FloatArray | None = None,
    *,
    y: FloatArray | None = None,
    coarsest: float = np.inf,
    tolerance: float = 1e-13,
) -> Minima:
    """Descend from ``q``, first with decreasing thresholds for the starts selected by ``staged``."""
    q = np.array(q)
    for delta in _stages(problem.objective, coarsest):
        part, responses = (None if rows is None else rows[staged] for rows in (weight, y))
        q[staged] = descend(
            problem, q[staged], part, delta=delta, y=responses, iterations=25, tolerance=1e-5
        ).q
    return descend(problem, q, weight, y=y, tolerance=tolerance)


def descend_likelihood(
    problem: Problem, q: FloatArray, weight: FloatArray, y: FloatArray | None = None
) -> Minima:
    """Minimise the Huber likelihood by alternating between scale and parameters; the threshold follows the scale."""
    relative = problem.objective.threshold
    threshold = np.full(len(q), 1e-2)
    value, converged = np.full(len(q), np.inf), np.zeros(len(q), dtype=bool)
    for _ in range(30):
        found = descend(problem, q, weight, delta=threshold, y=y)
        q, converged = found.q, found.converged
        residual = problem.residual(q, y)
        scale = best_scale(residual, weight, relative)
        # Without noise the scale would approach zero; the float precision of ln f is its lower limit.
        scale = np.maximum(scale, 1e-15 / relative)
        before, value = value, negative_log_likelihood(residual, weight, relative, scale)
        target = np.maximum(relative * scale, threshold / 10)
        settled = np.abs(target / threshold - 1) < 1e-9
        threshold = target
        if (settled | (np.abs(before - value) < 1e-12 * np.abs(value))).all():
            break
    return Minima(q, value, converged)


def _search_likelihood(problem: Problem, q: FloatArray) -> Minima:
    return descend_likelihood(problem, q, np.broadcast_to(problem.weight, (len(q), len(problem.y))))


def distinct(problem: Problem, minima: Minima, limit: int = 3) -> FloatArray:
    """Return the coordinates of the best few distinct minima, from which all bootstrap resamples start."""
    order = np.argsort(minima.value)
    chosen: list[int] = []
    for i in order:
        if not np.isfinite(minima.value[i]):
            break
        new = all(
            abs(minima.value[i] - minima.value[j]) > 1e-3 * abs(minima.value[j])
            or np.abs(minima.q[i] - minima.q[j]).max() > 0.1
            for j in chosen
        )
        if new:
            chosen.append(int(i))
        if len(chosen) == limit:
            break
    return minima.q[chosen]


def polish(problem: Problem, q: FloatArray, value: float) -> tuple[FloatArray, float]:
    """Find the last digits by scipy's L-BFGS-B, with the objective scaled to one and coordinates to their curvature."""
    if problem.objective.kind == "huber-likelihood" or value <= 1e-28:
        return q, value
    delta = problem.objective.threshold
    target = _target(problem, problem.y)
    basis, offset = problem.reduction()
    z = q[problem.free]

    def both(z: FloatArray) -> tuple[float, FloatArray, FloatArray, FloatArray]:
        residual, jacobian = _residual_and_jacobian(problem, offset + z[None] @ basis.T, target)
        jacobian = basis.T @ jacobian[0]
        r = residual[0]
        clipped = np.clip(r, -delta, delta)
        return float(problem.weight @ huber(r, delta)), jacobian @ (problem.weight * clipped), jacobian, r

    _, _, jacobian, r = both(z)
    weights = problem.weight * np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-300))
    scale = np.sqrt(value / np.maximum((jacobian**2 * weights).sum(axis=1), 1e-300))

    def scaled(t: FloatArray) -> tuple[float, FloatArray]:
        f, gradient, _, _ = both(z + scale * t)
        return (f / value, gradient * scale / value) if np.isfinite(f) else (1e10, np.zeros_like(t))

    low, high = problem.low[problem.free], problem.high[problem.free]
    limits = list(zip((low - z) / scale, (high - z) / scale, strict=True))
    found = minimize(
        scaled,
        np.zeros_like(z),
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": 200, "ftol": 1e-16, "gtol": 1e-12},
    )
    if found.fun >= 1.0:
        return q, value
    z = np.clip(z + scale * found.x, low, high)
    return (offset + z[None] @ basis.T)[0], both(z)[0]
