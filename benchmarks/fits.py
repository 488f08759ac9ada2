"""Time of a 64-start fit of 240 points and of 1,000 bootstrap refits, beside a loop over scipy's L-BFGS-B."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from benchmarks.harness import Cases, in_turn, parser, summary
from eval.scaling import Points, fit, get_law, grid, simulate
from eval.scaling.fitting.objective import huber

TRUTH = {"E": 1.82, "A": 482.0, "alpha": 0.348, "B": 2085.0, "beta": 0.366}
STARTS, RESAMPLES, LOOPED = 64, 1000, 8


def loop(points: Points) -> float:
    """Best objective of LOOPED starts by common practice: L-BFGS-B on ln A, ln B, ln E, one start after another."""
    n, d, y = np.log(points.variable("N")), np.log(points.variable("D")), np.log(points.L)

    def value(q: np.ndarray) -> float:
        e, a, alpha, b, beta = q
        parts = np.stack([np.full_like(n, e), a - alpha * n, b - beta * d])
        return float(huber(logsumexp(parts, axis=0) - y, 1e-3).sum())

    rng = np.random.default_rng(0)
    starts = rng.uniform([-1, 0, 0, 0, 0], [1, 25, 2, 25, 2], (LOOPED, 5))
    return min(minimize(value, start, method="L-BFGS-B").fun for start in starts)


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__).parse_args()
    n, d = grid(np.geomspace(5e7, 1.5e10, 16), np.geomspace(5e8, 3e11, 15))
    points = simulate(get_law("additive"), TRUTH, noise=0.01, seed=0, N=n, D=d)
    search = partial(fit, points, starts=STARTS)
    cases: Cases = {
        "search": partial(search, bootstrap=0),
        "all": partial(search, bootstrap=RESAMPLES),
        "loop": partial(loop, points),
    }
    times = in_turn(cases, arguments.repeats)
    result, per_start = search(bootstrap=0), times["loop"] / LOOPED
    print(f"{len(points)} points, {STARTS} starts: {summary(times['search'], 3)} s, objective "
          f"{result.objective:.9g}, {result.starts_at_optimum} starts at the optimum")  # fmt: skip
    print(f"{RESAMPLES} bootstrap refits: {summary(times['all'] - times['search'], 2)} s")
    print(f"L-BFGS-B in a loop: {summary(per_start, 3)} s per start (best of {LOOPED}: {loop(points):.9g}); "
          f"ratio for {STARTS} starts {summary(STARTS * per_start / times['search'])}")  # fmt: skip


if __name__ == "__main__":
    main()
