"""Does a law describe its points? Known noise, a law that is wrong, points without seeds."""

from dataclasses import replace

import numpy as np
import pytest

from eval.scaling import fit, get_law, grid, misfit, simulate

LAW = {"E": 0.32, "A": 11.27, "alpha": 0.44, "B": 7.22, "beta": 0.22}
N, D = grid(np.geomspace(1e3, 1e6, 6), np.geomspace(1e4, 1e6, 6))


def points(seeds, noise=0.02):
    n, d = np.tile(N, seeds), np.tile(D, seeds)
    return simulate(get_law("additive"), LAW, noise=noise, seed=1, N=n, D=d)


def test_the_right_law_misses_by_the_noise():
    found = misfit(table := points(3), fit(table, bootstrap=0))
    assert found.rms == pytest.approx(0.02, rel=0.2)
    assert found.seed_scatter == pytest.approx(0.02, rel=0.2)
    assert found.describes


def test_a_plateau_is_not_described():
    table = points(3)
    plateau = replace(table, L=np.where(table.variable("D") < 5e4, 2.3, table.L))
    found = misfit(plateau, fit(plateau, bootstrap=0))
    assert found.rms > 0.05
    assert not found.describes


def test_without_seeds_nothing_says_how_far_a_law_may_miss():
    found = misfit(table := points(1), fit(table, bootstrap=0))
    assert found.seed_scatter is None
    assert found.describes is None
    assert "no run was repeated" in str(found)


def test_seeds_that_agree_perfectly_do_not_refuse_every_law():
    table = points(1, noise=1e-3)
    twice = table.select(np.tile(np.arange(len(table)), 2))  # the same run twice: no scatter at all
    found = misfit(twice, fit(twice, bootstrap=0))
    assert found.seed_scatter == 0
    assert found.describes
