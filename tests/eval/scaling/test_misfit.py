"""What a law misses beyond noise widens its intervals: known noise, a law that is wrong, points without seeds."""

from dataclasses import replace

import numpy as np
import pytest

from eval.scaling import FitResult, Points, fit, get_law, grid, misfit, simulate

LAW = {"E": 0.32, "A": 11.27, "alpha": 0.44, "B": 7.22, "beta": 0.22}
N, D = grid(np.geomspace(1e3, 1e6, 6), np.geomspace(1e4, 1e6, 8))
CONSTANTS = ("E", "alpha", "beta")


def points(seeds, noise=0.02):
    n, d = np.tile(N, seeds), np.tile(D, seeds)
    return simulate(get_law("additive"), LAW, noise=noise, seed=1, N=n, D=d)


def wrong_by(size, rng, seeds=3, noise=0.02):
    """Runs whose losses differ from the law by a smooth random function of that size, and by noise."""
    u = np.stack([np.log(N) / 1.5, np.log(D) / 0.8])
    squares = ((u[:, :, None] - u[:, None]) ** 2).sum(axis=0)
    smooth = (
        size * np.linalg.cholesky(np.exp(-0.5 * squares) + 1e-8 * np.eye(len(N))) @ rng.normal(size=len(N))
    )
    ln = np.log(get_law("additive").predict(LAW, N=N, D=D)) + smooth
    ln = np.tile(ln, seeds) + noise * rng.normal(size=seeds * len(N))
    return Points.from_arrays(N=np.tile(N, seeds), D=np.tile(D, seeds), L=np.exp(ln))


def width(result, name):
    return float(np.ptp(result.params[name].ci95))


def test_the_right_law_misses_by_the_noise():
    found = misfit(table := points(3), fit(table, bootstrap=0))
    assert found.rms == pytest.approx(0.02, rel=0.2)
    assert found.seed_scatter == pytest.approx(0.02, rel=0.2)
    assert found.model_error < 0.008


def test_a_plateau_is_an_error_of_the_law_and_widens_its_intervals():
    table = points(3)
    plateau = replace(table, L=np.where(table.variable("D") < 5e4, 2.3, table.L))
    result = fit(plateau, loss="mse-log")
    found = misfit(plateau, result)
    assert found.model_error == pytest.approx(np.sqrt(found.rms**2 - found.seed_scatter**2), rel=0.05)
    assert found.model_error > 0.05
    assert "error of the law" in str(found)
    known = fit(table, loss="mse-log")
    assert all(width(result, name) > 3 * width(known, name) for name in CONSTANTS)


def test_without_seeds_nothing_tells_an_error_of_the_law_from_noise():
    found = misfit(table := points(1), fit(table, bootstrap=0))
    assert found.seed_scatter is None
    assert found.model_error is None
    assert "no run was repeated" in str(found)


def test_the_error_of_the_law_is_kept_in_the_file(tmp_path):
    result = fit(points(2), bootstrap=10)
    result.to_json(tmp_path / "fit.json")
    assert FitResult.from_json(tmp_path / "fit.json").model_error == result.model_error > 0


def test_intervals_hold_the_truth_where_the_law_is_wrong():
    """Resampling alone covers half of the truths that its 95 % intervals should."""
    inside = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        result = fit(wrong_by(0.03, rng), loss="mse-log", bootstrap=100, starts=8, seed=seed)
        inside += [result.params[k].ci95[0] <= LAW[k] <= result.params[k].ci95[1] for k in CONSTANTS]
    assert np.mean(inside) > 0.8


@pytest.mark.parametrize("size", [0.0, 0.02, 0.05])
def test_noise_widens_intervals(size):
    """The same studies with more and more noise: on average intervals do not become narrower, right law or wrong one.

    Of one study this cannot be promised, because noise moves the fit, too.
    """
    widths = []
    for noise in (0.005, 0.02, 0.08):
        tables = [wrong_by(size, np.random.default_rng([1, i]), noise=noise) for i in range(6)]
        results = [fit(t, loss="mse-log", bootstrap=100, starts=8) for t in tables]
        widths.append([np.mean([np.log(width(r, name)) for r in results]) for name in ("alpha", "beta")])
    assert (np.diff(widths, axis=0) > -0.2).all()
    assert (widths[-1] > np.array(widths[0]) - 0.1).all()


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_no_noise_buys_a_verdict(noise):
    """Laws wrong by 4 % cannot tell alpha from the truth, and noise added to the same tables does not make them say so.

    Without the error of the law 50 % of these tables contradict the truth.
    """
    resolved = []
    for seed in range(10):
        table = wrong_by(0.04, np.random.default_rng(100 + seed), noise=0.01)
        noisy = replace(
            table, L=table.L * np.exp(noise * np.random.default_rng(seed).normal(size=len(table)))
        )
        for name in ("alpha", "beta"):
            found = fit(noisy, loss="mse-log", bootstrap=60, starts=4, seed=seed).params[name]
            resolved.append(found.identified and not found.ci95[0] <= LAW[name] <= found.ci95[1])
    assert np.mean(resolved) <= 0.1
