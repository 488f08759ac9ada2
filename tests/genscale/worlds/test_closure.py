"""The comparison of fits with the truth, on tables from laws that are known."""

from dataclasses import replace

import numpy as np
import pytest

from eval.scaling import Points, fit, get_law, simulate
from eval.scaling.simulate import grid
from genscale.worlds.closure import GUARDS, Truth, below_floor, close
from genscale.worlds.facts import Facts

LAW = {"E": 1.5, "A": 40.0, "alpha": 0.5, "B": 60.0, "beta": 0.4}


def table(noise: float, seed: int = 0) -> Points:
    """Five sizes, two seeds, two decades of D."""
    n, d = grid(np.geomspace(1e3, 1e5, 5), np.geomspace(2e3, 2e5, 7))
    found = [simulate(get_law("additive"), LAW, noise=noise, seed=seed + s, N=n, D=d) for s in range(2)]
    return Points.from_arrays(
        L=np.concatenate([p.L for p in found]), N=np.tile(n, 2), D=np.tile(d, 2),
        group=[f"{size:.0f}-s{s}" for s in range(2) for size in n],
    )  # fmt: skip


@pytest.fixture(scope="module")
def closed():
    return close(table(0.003), Truth(1.5, 0.0), grids=6, bootstrap=20, starts=8)


def test_a_law_that_is_right_is_recovered(closed):
    best = closed.laws[0]
    assert best.name == "L(N, D), Huber"
    assert best.covered["ci95"]
    assert best.bias == pytest.approx(0, abs=0.05)
    assert best.params["beta"].value == pytest.approx(0.4, abs=0.1)
    assert best.decades == pytest.approx({"N": 2, "D": 2})


def test_intervals_of_smaller_grids_hold_the_truth_and_verdicts_are_right(closed):
    assert len(closed.grids) == len(closed.judged) == 6 - closed.failed
    assert closed.coverage("ci95") >= 0.6
    assert closed.coverage("ci95", judged=True) >= closed.coverage("ci95")
    assert closed.verdicts["true, wrong"] <= 0.1
    assert closed.verdicts["too high, wrong"] <= 0.1
    assert not closed.leaks


def test_spans_are_shorter_than_the_grid(closed):
    whole, *parts = closed.spans
    assert {f.name.split()[0] for f in parts} == {"D", "N"}
    assert all(0.9 <= f.decades["D"] <= whole.decades["D"] for f in parts)
    assert all(f.n_points < whole.n_points for f in parts)


def test_a_wrong_truth_is_missed_and_the_guards_are_asked(closed):
    found = close(table(0.003), Truth(1.0, 0.0), grids=2, bootstrap=20, starts=8)
    assert found.coverage("ci95") < 0.5
    assert not found.laws[0].covered["ci95"]
    caught = found.caught()
    assert set(caught) == {*GUARDS, "none"}
    assert all(0 <= share <= 1 for share in caught.values())


def test_a_loss_below_the_floor_is_a_leak():
    points = table(0.0)
    loss = points.L.copy()
    loss[3] = 1.45
    points = replace(points, L=loss, extra={"L_error": ["0.01"] * len(loss)})
    truth = Truth(1.5, 0.001)
    assert close(points, truth, grids=0, bootstrap=2, starts=4).leaks == (points.group[3],)
    assert below_floor(np.array([1.45, 1.48]), np.array([0.01, 0.01]), truth).tolist() == [True, False]


def test_the_exponent_of_data_of_the_facts_is_found_in_their_own_curve():
    """Of a perfect memory: the loss falls to zero as D^-a/(1+a), and a fit must find both, and no floor."""
    world = Facts(base=1024, digits=2, exponent=0.5)
    d = np.geomspace(1e3, 1e5, 9)
    points = Points.from_arrays(L=np.log(4) * world.unseen(d), D=d, N=np.full(9, 1e9))
    found = fit(points, "power", variable="D", bootstrap=0)
    assert found.params["beta"].value == pytest.approx(1 / 3, abs=0.03)
    assert found.params["E"].value < 0.01 * points.L.max()


def test_intervals_hold_the_known_exponent_and_floor_of_the_facts_as_often_as_they_say():
    """Acceptance of the fitter on the curve of a perfect memory: 68 % intervals in at least 60 % of the seeds."""
    world = Facts(base=1024, digits=2, exponent=0.5)
    d, floor = np.geomspace(300, 3e4, 12), world.exact().tagging
    curve = floor + np.log(4) * world.unseen(d)
    held = []
    for seed in range(15):
        noise = np.exp(np.random.default_rng(seed).normal(0, 0.01, (3, 12)))
        points = Points.from_arrays(L=(curve * noise).ravel(), D=np.tile(d, 3))
        found = fit(points, "power", variable="D", bootstrap=60, starts=8, seed=seed).params
        held.append([
            ends[0] <= true <= ends[1]
            for ends, true in ((found["E"].ci68, floor), (found["beta"].ci68, 1 / 3))
        ])  # fmt: skip
    assert (np.mean(held, axis=0) >= 0.6).all()
