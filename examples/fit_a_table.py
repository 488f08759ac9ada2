"""Fit a scaling law to a table of N, D and L, and plan the next run.

    python examples/fit_a_table.py [points.csv]

Any CSV with columns N (parameters), D (data) and L (loss) will do; without one, the example reads the taggers of an
early quickstart. docs/scaling-laws.md explains the numbers.
"""

import sys
from pathlib import Path

from eval.scaling import fit, plan, read_points

QUICKSTART = Path(__file__).parents[1] / "docs" / "results" / "quickstart" / "points.csv"
BUDGET = 5e12  # FLOPs


def main(table: Path = QUICKSTART) -> None:
    """Print the law of a table, and what to train with the budget."""
    points = read_points(table, where={"task": "tagger"} if table == QUICKSTART else None)
    result = fit(points)  # L = E + A/N^alpha + B/D^beta, with 68 % intervals from a bootstrap
    print(result)
    for name in ("alpha", "beta"):
        estimate = result.params[name]
        known = "identified" if estimate.identified else f"not identified: {estimate.reason}"
        print(f"{name} = {estimate} ({known})")
    best = plan(result, flops=BUDGET)
    print(f"with {BUDGET:.0e} FLOPs: N = {best.N}, D = {best.D}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
