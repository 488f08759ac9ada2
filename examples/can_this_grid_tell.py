"""Before training: can a planned grid of runs identify the constants of a scaling law?

    python examples/can_this_grid_tell.py

The example simulates losses of taggers from published constants (Vigl et al., arXiv:2602.15781) on two grids, with the
scatter of one seed, fits each table as if it had been measured, and compares the intervals with the truth.
"""

import numpy as np

from eval.scaling import fit, get_law, grid, simulate

TRUTH = {"E": 0.32, "A": 11.27, "alpha": 0.44, "B": 7.22, "beta": 0.22}
SCATTER = 1e-2  # relative scatter of the loss between seeds
GRIDS = {
    "a laptop": (np.geomspace(1e3, 1e5, 5), np.geomspace(1e4, 2e5, 5)),
    "the paper": (np.geomspace(1e3, 1e7, 9), np.geomspace(1e5, 1e8, 9)),
}


def main() -> None:
    """Print, for each grid, the true and the fitted constants, and whether they are identified."""
    for name, (sizes, data) in GRIDS.items():
        n, d = grid(sizes, data)
        result = fit(simulate(get_law("additive"), TRUTH, noise=SCATTER, seed=1, N=n, D=d))
        print(f"{name}: {len(n)} runs, N to {n.max():.0e}, D to {d.max():.0e}")
        for constant, truth in TRUTH.items():
            print(f"  {constant:5} true {truth:6.4g}, fitted {result.params[constant]}")


if __name__ == "__main__":
    main()
