"""Rejection, ROC and area against closed forms and repeated experiments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from eval.common.errors import InputError
from eval.tagging.rejection import area_under_curve, rejection


def test_two_gaussians_in_closed_form():
    rng = np.random.default_rng(0)
    signal, background = rng.normal(2, 1, 400_000), rng.normal(0, 1, 400_000)
    result = rejection(signal, background, 0.5)
    expected = 1 / norm.sf(2.0)  # half the signal lies above its mean
    assert result.value == pytest.approx(expected, rel=0.03)
    assert abs(result.value - expected) < 4 * result.standard_error
    area, error = area_under_curve(signal, background)
    assert area == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=4 * error)


def test_counted_by_hand():
    result = rejection([0.9, 0.8, 0.7, 0.6], [0.95, 0.75, 0.5, 0.1, 0.05], 0.5)
    assert (result.threshold, result.n_kept, result.value) == (0.8, 1, 5.0)
    assert result.standard_error == pytest.approx(np.sqrt(0.2 * 0.8 / 5) / 0.2**2)
    assert result.low < 5 < result.high


def test_no_background_left_gives_a_limit_not_a_number():
    result = rejection([1.0, 2.0], [0.0] * 100, 0.5)
    assert result.value == np.inf
    assert result.high == np.inf
    assert 30 < result.low < 100  # 68 % lower limit for none of 100


def test_error_is_the_spread_of_repetitions():
    rng = np.random.default_rng(1)
    signal = rng.normal(1.5, 1, 200_000)
    results = [rejection(signal, rng.normal(0, 1, 4000), 0.5) for _ in range(200)]
    spread = np.std([r.value for r in results])
    assert np.median([r.standard_error for r in results]) == pytest.approx(spread, rel=0.2)
    truth = 1 / norm.sf(1.5)
    assert np.mean([r.low < truth < r.high for r in results]) == pytest.approx(0.68, abs=0.12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40))
def test_the_area_is_the_rank_statistic_and_that_of_scikit_learn(seed, s, b):
    rng = np.random.default_rng(seed)
    signal, background = rng.integers(0, 8, s), rng.integers(0, 6, b)  # many ties
    area = area_under_curve(signal, background)[0]
    assert area == pytest.approx(mannwhitneyu(signal, background).statistic / (s * b))
    labels = np.repeat([1, 0], [s, b])
    assert area == pytest.approx(roc_auc_score(labels, np.concatenate([signal, background])))


def test_bad_input_is_named():
    with pytest.raises(InputError, match="efficiency is 50"):
        rejection([1.0], [0.0], 50)
    with pytest.raises(InputError, match="background_scores"):
        rejection([1.0], [], 0.5)
    with pytest.raises(InputError, match="1 of 2 scores are not finite"):
        area_under_curve([1.0, np.nan], [0.0])
