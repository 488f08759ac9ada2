"""Laws of the distance: simulated distances with floors and errors give back the law that they were made with."""

import csv

import numpy as np
import pytest

from eval.common.results import Unavailable
from eval.fidelity.distances import Distance
from eval.fidelity.floors import Floor
from eval.fidelity.law import distance_laws, distance_row
from eval.fidelity.result import Score
from eval.scaling import fit, read_points

TRUTH = {"E": 0.05, "A": 6.0, "alpha": 0.4, "B": 30.0, "beta": 0.5}
N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e4, 1e7, 6), np.geomspace(1e3, 1e6, 7)))
FLOOR = 0.02


def rows_of(noise: float, seed: int = 0, scale: float = 1.0) -> list[dict]:
    """Scores of a grid of runs, each of one seed: quadratic sums of a law and the floor, with errors."""
    rng = np.random.default_rng(seed)
    true = scale * (
        TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
    )  # fmt: skip
    rows = []
    for n, d, distance in zip(N, D, true, strict=True):
        value = np.hypot(distance, FLOOR) + noise * rng.standard_normal()
        error = max(noise, 1e-4)
        floor = Floor(FLOOR + 0.002 * np.array([-1.0, 1.0]) / 2**0.5, 5000, 5000, 1.0)
        score = Score(
            "joint", "", Distance(value, 1.5 * error, 1.5 * error, 0.0, error, 1, 200, 5000, 5000), floor
        )
        rows.append({"N": n, "D": d, "C": 6 * n * d, "run": f"{n:.0f}", **distance_row(score)})
    return rows


def test_the_law_is_recovered_without_noise_whatever_the_floor_of_the_samples():
    found = distance_laws(rows_of(0.0), bootstrap=0)
    for name, value in TRUTH.items():
        assert found.laws["N,D"].params[name].value == pytest.approx(value, rel=1e-4)
    gamma = TRUTH["alpha"] * TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    assert found.laws["N,D"].derived["gamma"].value == pytest.approx(gamma, rel=1e-4)
    assert found.laws["D"].params["beta"].value == pytest.approx(TRUTH["beta"], rel=1e-3)
    assert found.laws["D"].params["E"].value == pytest.approx(TRUTH["E"] + TRUTH["A"] * 1e7**-0.4, rel=1e-3)
    assert found.n_unresolved == 0


def test_noise_leaves_the_truth_within_the_intervals():
    found = distance_laws(rows_of(2e-3, seed=1), bootstrap=100)
    for name in ("alpha", "beta", "E"):
        low, high = found.laws["N,D"].params[name].ci95
        assert low < TRUTH[name] < high
    # A distance is weighted with the precision that its own sample gives it: near the floor it counts little.
    weight = found.points.weight
    assert weight.max() > 50 * weight.min()


def test_distances_at_their_floor_are_no_points():
    found = distance_laws(rows_of(2e-3, scale=0.1), bootstrap=0)
    assert 0 < found.n_unresolved < len(N)
    assert len(found.points) == len(N) - found.n_unresolved
    none = distance_laws(rows_of(0.0, scale=1e-3), bootstrap=0)
    assert none.n_unresolved == len(N)
    assert str(none.laws["N,D"]) == f"none of {len(N)} distances is resolved from its floor"
    assert isinstance(none.points, Unavailable)


def test_too_few_points_have_no_law():
    few = distance_laws(rows_of(0.0)[:3], bootstrap=0)
    assert str(few.laws["N,D"]).startswith("not fitted: ")


def test_the_table_can_be_fitted_like_any_other(tmp_path):
    rows = rows_of(2e-3, seed=1, scale=0.1)
    table = tmp_path / "points.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    points = read_points(table, columns={"L": "corrected"}, where={"resolved": "1"})
    found = distance_laws(rows, bootstrap=0)
    assert 0 < found.n_unresolved == len(rows) - len(points)
    again = fit(points, loss="mse-log", bootstrap=0)
    for name, estimate in found.laws["N,D"].params.items():
        assert again.params[name].value == pytest.approx(estimate.value, rel=1e-6)
