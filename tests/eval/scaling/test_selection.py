"""The interval behind a verdict: one law fitted in every reasonable way."""

from dataclasses import replace

import numpy as np
import pytest

from eval.scaling import InputError, fit, get_law, grid, simulate, spread, systematic, variants

LAW = {"E": 0.32, "A": 11.27, "alpha": 0.44, "B": 7.22, "beta": 0.22}
N, D = grid(np.geomspace(1e3, 1e6, 6), np.geomspace(1e4, 1e6, 8))


def points(noise=0.02, blocks=False):
    n, d = np.tile(N, 2), np.tile(D, 2)
    table = simulate(get_law("additive"), LAW, noise=noise, seed=1, N=n, D=d)
    # Embedding and head of a tagger: a fixed number of parameters that the blocks do not have.
    return replace(table, extra={"N_blocks": [repr(float(x)) for x in 0.7 * n - 200]}) if blocks else table


def test_every_way_is_tried_and_the_reference_comes_first():
    table = points(blocks=True)
    found = variants(table, bootstrap=50)
    assert len(found) == 5 * 2 * 2
    assert [found[0].window, found[0].size, found[0].fit.loss.kind] == ["all points", "N", "huber-log"]
    assert found[0].fit.samples is not None
    assert all(v.fit.samples is None for v in found[1:])
    assert {v.fit.loss.kind for v in found} == {"huber-log", "mse-log"}
    assert len({v.name for v in found}) == len(found)


def test_the_interval_holds_every_variant_and_the_interval_of_the_reference():
    table = points(blocks=True)
    found = systematic(table, bootstrap=100)
    reference = fit(table, bootstrap=100, starts=24)
    for name, whole in found.items():
        alone = {**reference.params, **reference.derived}[name]
        assert whole.estimate.value == alone.value
        low, high = whole.estimate.ci95
        assert low <= min(alone.ci95[0], whole.range[0])
        assert high >= max(alone.ci95[1], whole.range[1])
    assert len(found["alpha"].variants) == 20
    assert len(found["A"].variants) == 10  # the amplitude at one parameter depends on which parameters count
    assert (
        found["alpha"].range[0] < 0.41 < found["alpha"].range[1]
    )  # fewer parameters in the blocks of small models


def test_without_noise_all_ways_agree():
    found = systematic(points(noise=0.0), bootstrap=20)
    for name, value in LAW.items():
        np.testing.assert_allclose(found[name].range, value, rtol=1e-4)


def test_any_number_of_a_fit_has_a_spread():
    ways = variants(points(), "power", variable="D", bootstrap=50, starts=8)
    whole = spread(ways, lambda f: f.params["B"], log=True)
    ends = ways[0].fit.params["B"].ci95
    assert whole.estimate.ci95[0] == pytest.approx(ends[0] * whole.range[0] / whole.estimate.value)
    assert whole.estimate.ci95[1] == pytest.approx(ends[1] * whole.range[1] / whole.estimate.value)


def test_an_interval_that_a_bound_cuts_is_not_identified():
    table = points(noise=0.15)
    floor = systematic(table, bootstrap=100)["E"].estimate
    assert floor.ci95[0] == 0
    assert floor.identified is False


def test_points_that_determine_no_law_are_refused():
    with pytest.raises(InputError, match="cannot determine the 5 constants"):
        systematic(points().select(np.arange(4)))
