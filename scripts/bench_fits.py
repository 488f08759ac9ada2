"""Time of a 64-start fit of 240 points and of 1,000 bootstrap refits, beside a loop over scipy's L-BFGS-B.

Run with OMP_NUM_THREADS=1 for figures of one core.
"""

import time

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from eval.scaling import Points, fit, get_law, grid, simulate
from eval.scaling.fitting.objective import huber

TRUTH = {"E": 1.82, "A": 482.0, "alpha": 0.348, "B": 2085.0, "beta": 0.366}
STARTS, RESAMPLES, LOOPED = 64, 1000, 8


def loop(points: Points, count: int) -> tuple[float, float]:
    """Seconds a start and the best objective of common practice: L-BFGS-B on ln A, ln B, ln E, one by one."""
    n, d, y = np.log(points.variable("N")), np.log(points.variable("D")), np.log(points.L)

    def value(q: np.ndarray) -> float:
        e, a, alpha, b, beta = q
        parts = np.stack([np.full_like(n, e), a - alpha * n, b - beta * d])
        return float(huber(logsumexp(parts, axis=0) - y, 1e-3).sum())

    rng, best = np.random.default_rng(0), np.inf
    begin = time.perf_counter()
    for _ in range(count):
        start = [
            rng.uniform(-1, 1),
            rng.uniform(0, 25),
            rng.uniform(0, 2),
            rng.uniform(0, 25),
            rng.uniform(0, 2),
        ]
        best = min(best, minimize(value, start, method="L-BFGS-B").fun)
    return (time.perf_counter() - begin) / count, best


def main() -> None:
    """Print the figures."""
    n, d = grid(np.geomspace(5e7, 1.5e10, 16), np.geomspace(5e8, 3e11, 15))
    points = simulate(get_law("additive"), TRUTH, noise=0.01, seed=0, N=n, D=d)
    fit(points, bootstrap=0)  # the first call pays for imports
    begin = time.perf_counter()
    result = fit(points, bootstrap=0, starts=STARTS)
    search = time.perf_counter() - begin
    begin = time.perf_counter()
    fit(points, bootstrap=RESAMPLES, starts=STARTS)
    whole = time.perf_counter() - begin
    per_start, lowest = loop(points, LOOPED)
    print(
        f"{len(points)} points, {STARTS} starts: {search:.3f} s, objective {result.objective:.9g}, ", end=""
    )
    print(f"{result.starts_at_optimum} starts at the optimum")
    print(f"{RESAMPLES} bootstrap refits: {whole - search:.2f} s")
    print(f"L-BFGS-B in a loop: {per_start:.3f} s a start (best of {LOOPED}: {lowest:.9g}); ", end="")
    print(f"ratio for {STARTS} starts {STARTS * per_start / search:.0f}")


if __name__ == "__main__":
    main()
