"""Calibration: nothing found in perfect taggers, what was put in found in others."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from eval.common.errors import InputError
from eval.tagging.calibration import calibrate

NAMES = ["QCD", "Hbb", "Tbqq"]


def sample(n, seed, temperature=1.0):
    """Probabilities stated at a temperature below the true one (above one: overconfident), and labels."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random(n)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    stated = np.exp(temperature * logits)
    return stated / stated.sum(axis=1, keepdims=True), labels


def test_a_perfect_tagger_sits_at_its_floor():
    found = calibrate(*sample(20_000, 0), NAMES)
    assert found.verdict.startswith("no miscalibration resolved")
    assert abs(found.significance) < 3
    assert found.confidence.error == pytest.approx(
        found.confidence.floor, abs=4 * found.confidence.floor_spread
    )
    assert found.confidence.floor > 0.002  # a bare calibration error would look like a defect
    assert set(found.classes) == set(NAMES)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("temperature", "word"), [(1.25, "overconfident"), (0.8, "underconfident")])
def test_a_temperature_is_recovered_within_its_error(temperature, word):
    found = calibrate(*sample(20_000, 1, temperature), NAMES)
    assert found.temperature == pytest.approx(temperature, abs=3 * found.temperature_error)
    assert found.temperature_error < 0.03
    assert found.verdict.startswith(word)
    assert found.confidence.resolved
    assert found.loss_at_temperature < found.loss
    assert not found.at_temperature.resolved
    inside = (found.confidence.observed < found.confidence.stated).mean()
    assert inside > 0.7 if word == "overconfident" else inside < 0.3


def test_temperature_is_the_minimum_that_a_plain_search_finds():
    p, y = sample(3000, 2, 1.3)

    def loss(t):
        q = p ** (1 / t)
        return -np.log(q[np.arange(len(y)), y] / q.sum(axis=1)).mean()

    best = minimize_scalar(loss, bounds=(0.2, 5), method="bounded", options={"xatol": 1e-9})
    found = calibrate(p, y, NAMES, resamples=5)
    assert found.temperature == pytest.approx(best.x, rel=1e-5)
    assert found.loss_at_temperature == pytest.approx(best.fun, rel=1e-9)


def test_one_class_too_sure_is_named():
    rng = np.random.default_rng(3)
    p, y = sample(30_000, 3)
    swap = (y == 0) & (rng.random(len(y)) < 0.15)
    y = np.where(swap, 1, y)
    found = calibrate(p, y, NAMES)
    assert found.classes["QCD"].resolved
    assert found.classes["Hbb"].resolved
    assert not found.classes["Tbqq"].resolved
    assert "confident" in found.verdict or "QCD" in found.verdict


def test_classes_that_are_never_the_likeliest_are_named_among_many():
    """The default number of draws must be able to single out one class of ten."""
    rng = np.random.default_rng(5)
    n, names = 20_000, [f"c{k}" for k in range(10)]
    share = rng.dirichlet(np.ones(8), n)
    true = np.column_stack([0.94 * share, np.full((n, 2), 0.03) * rng.uniform(0.5, 1.5, (n, 2))])
    true /= true.sum(axis=1, keepdims=True)
    labels = (rng.random(n)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    stated = true.copy()
    stated[:, 8], stated[:, 9] = 0.75 * true[:, 8], true[:, 9] + 0.25 * true[:, 8]
    assert calibrate(true, labels, names).verdict.startswith("no miscalibration resolved")
    found = calibrate(stated, labels, names)
    assert not found.confidence.resolved
    assert found.verdict.startswith("miscalibrated (in c8, c9), but not by a temperature")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(100, 700), st.integers(2, 10))
def test_bins_hold_every_jet_once(seed, n, n_bins):
    p, y = sample(n, seed)
    found = calibrate(p, y, NAMES, n_bins=n_bins, resamples=5, seed=seed)
    for r in (found.confidence, *found.classes.values()):
        assert r.count.sum() == n
        assert np.ptp(r.count) <= 1
        assert (np.diff(r.stated) >= -1e-12).all()
        assert ((r.low <= r.observed) & (r.observed <= r.high)).all()
    right = (p.argmax(1) == y).mean()
    assert np.average(found.confidence.observed, weights=found.confidence.count) == pytest.approx(right)


@pytest.mark.slow
def test_perfect_taggers_are_rejected_at_the_nominal_rate_and_errors_cover():
    trials = 200
    found = [calibrate(*sample(2000, 100 + i), NAMES, n_bins=10, resamples=99, seed=i) for i in range(trials)]
    rejected = sum(f.confidence.p_value <= 0.1 for f in found)
    assert binom.ppf(1e-3, trials, 0.08) <= rejected <= binom.ppf(0.999, trials, 0.12)
    covered = sum(abs(f.temperature - 1) < f.temperature_error for f in found)
    assert binom.ppf(1e-3, trials, 0.66) <= covered <= binom.ppf(0.999, trials, 0.70)


def test_certainty_that_is_always_right_has_no_temperature():
    y = np.random.default_rng(0).integers(0, 3, 300)
    found = calibrate(np.eye(3)[y], y, NAMES, resamples=20)
    assert found.significance == 0.0
    assert found.verdict.startswith("no miscalibration resolved")


def test_bad_input_is_named():
    p, y = sample(100, 0)
    with pytest.raises(InputError, match="50 bins for 100 jets; from 2 to 10"):
        calibrate(p, y, NAMES, n_bins=50)
    with pytest.raises(InputError, match="not the logits"):
        calibrate(3 * p, y, NAMES)
