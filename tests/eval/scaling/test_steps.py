"""Paired steps: closed forms, pairing by seed, coverage, and what is not extrapolated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scaling import Points, grid
from eval.scaling.steps import SPAN, paired_steps, ratio_interval

SIZES = np.geomspace(1e3, 1e5, 5)
DATA = 1000.0 * 2 ** np.arange(6)


def table(loss, seeds=3, sizes=SIZES, data=DATA, noise=0.0, seed_effect=0.0, rng=None):
    """Runs of every size, amount of data and seed: ``loss(N, D)``, noise of each run, effect of each seed."""
    rng = np.random.default_rng(0) if rng is None else rng
    n, d = grid(sizes, data)
    columns = {name: [] for name in ("N", "D", "L", "seed")}
    for seed in range(seeds):
        common = seed_effect * rng.standard_normal(len(data))
        columns["N"].append(n)
        columns["D"].append(d)
        columns["L"].append(loss(n, d) + noise * rng.standard_normal(len(n)) + np.tile(common, len(sizes)))
        columns["seed"].append(np.full(len(n), str(seed)))
    return Points.from_arrays(**{name: np.concatenate(parts) for name, parts in columns.items()})


def law(n, d):
    return 1.0 + 5 / n**0.3 + 9 / d**0.25


def test_without_noise_steps_are_the_differences_of_the_law():
    steps = paired_steps(table(law))
    for step in steps.size:
        assert step.change == pytest.approx(law(step.high, step.other) - law(step.low, step.other), abs=1e-6)
    for step in steps.data:
        assert step.change == pytest.approx(law(step.other, step.high) - law(step.other, step.low), abs=1e-6)
        assert step.high / step.low == 2
    assert len(steps.size) == 4 * 6
    assert len(steps.data) == 5 * 5
    assert [step.high for step in steps.last_sizes] == pytest.approx(SIZES[1:])
    assert [step.other for step in steps.last_doublings] == pytest.approx(SIZES)
    assert {step.other for step in steps.last_sizes} == {step.high for step in steps.last_doublings}
    assert (steps.last_size.high, steps.last_size.other) == pytest.approx((1e5, 32_000))
    assert (steps.last_doubling.high, steps.last_doubling.other) == pytest.approx((32_000, 1e5))


def test_two_sizes_with_two_seeds_are_a_paired_t_test():
    rng = np.random.default_rng(3)
    points = table(law, sizes=SIZES[:2], seeds=4, noise=0.02, seed_effect=0.3, rng=rng)
    step = paired_steps(points).last_size
    last = points.select(DATA[-1] == points.D)
    small, large = (last.L[n == last.N] for n in SIZES[:2])
    difference = large - small
    assert step.change == pytest.approx(difference.mean())
    assert step.error == pytest.approx(difference.std(ddof=1) / 2)
    assert step.dof == 3
    assert step.error < 0.1  # the effect of the seed, 0.3, cancels


def test_without_labels_of_seeds_errors_are_pooled_over_sizes():
    points = table(law, noise=0.02)
    unlabelled = Points.from_arrays(
        N=points.N,
        D=points.D,
        L=points.L,
        group=[f"{n:.0f} {s}" for n, s in zip(points.N, points.seed, strict=True)],
    )
    step = paired_steps(unlabelled).last_size
    last = points.select(DATA[-1] == points.D)
    within = [last.L[n == last.N].var(ddof=1) for n in SIZES]
    assert step.dof == 2 * len(SIZES)
    assert step.error == pytest.approx(np.sqrt(np.mean(within) * 2 / 3))


def test_a_single_seed_gives_no_interval():
    steps = paired_steps(table(law, seeds=1))
    assert steps.last_size.interval() == (-np.inf, np.inf)
    assert steps.last_size.estimate.identified is False
    assert "no run was repeated" in steps.last_doubling.estimate.reason


def test_sizes_with_one_seed_share_the_scatter_of_the_others():
    points = table(law, noise=0.02)
    points = points.select((points.N < 5e4) | (points.seed == "0"))
    step = paired_steps(points).last_size
    assert step.high == pytest.approx(1e5)
    assert np.isfinite(step.interval()).all()


def test_losses_are_interpolated_within_a_run_and_never_beyond():
    """Two sizes evaluated at different D; one of them stops early."""
    shifted = table(law, sizes=SIZES[:1], data=1300.0 * 2 ** np.arange(5))
    both = table(law, sizes=SIZES[1:2])
    points = Points.from_arrays(
        **{k: np.concatenate([getattr(shifted, k), getattr(both, k)]) for k in ("N", "D", "L", "seed")}
    )
    steps = paired_steps(points)
    top = steps.last_size
    assert top.other == pytest.approx(1300 * 16)
    assert top.change == pytest.approx(law(SIZES[1], top.other) - law(SIZES[0], top.other), abs=2e-3)
    assert all(step.other <= top.other * 1.001 for step in steps.size)
    gaps = paired_steps(table(law, data=np.array([1e3, 1e4, 1e5])))
    assert all(
        step.other == pytest.approx(1e5) for step in gaps.size
    )  # 5e4 lies in a gap too wide to interpolate in
    assert not gaps.data


def test_the_wide_step_spans_one_and_a_half_decades_at_the_largest_data():
    points = table(law)
    less = points.select((points.N < 9e4) | (points.D < 1e4))
    assert paired_steps(points).span.low == pytest.approx(1e3 * 10**0.5)
    span = paired_steps(less).span
    assert (span.low, span.high) == pytest.approx((1e3, 1e3 * 10**1.5))
    assert span.decades >= SPAN - 1e-6
    assert paired_steps(points.select(points.N < 2e4)).span is None


@pytest.mark.parametrize("seed_effect", [0.0, 0.03])
def test_intervals_cover(seed_effect):
    """Steps of size, doublings and their ratio; shared effects of seeds are part of a doubling's error."""
    rng = np.random.default_rng(1)
    truth = law(SIZES, DATA[-1]), law(SIZES, DATA[-2])
    per_decade = (truth[1][-1] - truth[0][-1]) / np.log10(2), (truth[0][-2] - truth[0][-1]) / 0.5
    hits = np.zeros(3)
    trials = 400
    for _ in range(trials):
        points = table(law, noise=0.01, seed_effect=seed_effect, data=DATA[-2:], rng=rng)
        steps = paired_steps(points)
        for i, (step, true) in enumerate(
            [
                (steps.last_size, truth[0][-1] - truth[0][-2]),
                (steps.last_doubling, truth[0][-1] - truth[1][-1]),
            ]
        ):
            low, high = step.interval()
            hits[i] += low <= true <= high
        low, high = ratio_interval(steps.last_doubling, steps.last_size)
        hits[2] += low <= per_decade[0] / per_decade[1] <= high
    assert (hits / trials > 0.90).all(), hits / trials


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(0.1, 10), shift=st.floats(0, 3), unit=st.floats(1e-3, 1e3))
def test_units_of_size_and_offsets_of_the_loss_change_nothing(scale, shift, unit):
    points = table(law, noise=0.02)
    moved = Points.from_arrays(N=points.N * unit, D=points.D, L=scale * (points.L + shift), seed=points.seed)
    before, after = paired_steps(points), paired_steps(moved)
    for one, other in zip(before.size, after.size, strict=True):
        assert other.change == pytest.approx(scale * one.change, rel=1e-6, abs=1e-6)
        assert other.error == pytest.approx(scale * one.error, rel=1e-6)


def test_a_ratio_to_a_fall_that_may_be_zero_has_no_upper_end():
    flat = paired_steps(table(lambda n, d: 1 + 9 / d**0.25 + 0 * n, noise=0.01))
    low, high = ratio_interval(flat.last_doubling, flat.last_size)
    assert low > 0
    assert high == np.inf
    assert ratio_interval(paired_steps(table(law, seeds=1)).last_doubling, flat.last_size) == (
        -np.inf,
        np.inf,
    )
