"""The two-sample test against the best possible classifier, and on samples that are alike."""

import numpy as np
import pytest
from scipy.stats import norm

from eval.common.errors import InputError
from eval.fidelity.two_sample import classifier_two_sample_test


def gaussians(n, seed, shift=0.0, correlation=0.0):
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, n))
    return {"a": a + shift, "b": correlation * a + np.sqrt(1 - correlation**2) * b, "c": c}


def test_auc_reaches_the_optimum_for_shifted_gaussians():
    result = classifier_two_sample_test(gaussians(6000, 1, shift=0.8), gaussians(6000, 2))
    optimum = norm.cdf(0.8 / np.sqrt(2))
    assert result.auc <= optimum + 3 * result.standard_error
    assert result.auc == pytest.approx(optimum, abs=0.015)
    assert max(result.importance, key=result.importance.get) == "a"
    assert result.verdict.startswith("told apart")
    assert "most by a" in result.verdict


def test_correlation_is_seen_that_no_single_observable_shows():
    result = classifier_two_sample_test(gaussians(4000, 1, correlation=0.8), gaussians(4000, 2))
    assert result.significance > 10
    assert result.importance["c"] < 0.2 * result.importance["a"]


def test_alike_samples_of_unequal_size_are_not_told_apart():
    z = [classifier_two_sample_test(gaussians(400, s), gaussians(1600, 100 + s), n_trees=30).significance
         for s in range(12)]  # fmt: skip
    assert abs(np.mean(z)) < 1.0
    assert 0.5 < np.std(z) < 1.8
    result = classifier_two_sample_test(gaussians(400, 1), gaussians(800, 2), n_trees=30)
    assert result.verdict.startswith("not resolved at n = 400: not told apart by boosted trees")


def test_samples_without_any_difference_or_overlap():
    nothing = classifier_two_sample_test({"a": np.zeros(300)}, {"a": np.zeros(300)}, n_trees=5)
    assert (nothing.auc, nothing.significance) == (0.5, 0.0)
    assert nothing.verdict.startswith("not resolved")
    everything = classifier_two_sample_test({"a": np.zeros(300)}, {"a": np.ones(300)}, n_trees=5)
    assert everything.auc == 1.0
    assert 10 < everything.significance < np.inf
    assert everything.row("trees").resolved


def test_same_seed_same_result():
    def run(seed):
        return classifier_two_sample_test(gaussians(300, 1), gaussians(300, 2), n_trees=10, seed=seed)

    assert run(1) == run(1)
    assert run(1).auc != run(2).auc


def test_exclusive_or_is_seen():
    """Two observables that are alike one by one, and whose product has another sign in nine of ten jets."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4, 2000))
    turned = np.where(rng.random(2000) < 0.9, np.sign(x[0]), np.sign(x[2])) * np.abs(x[1])
    result = classifier_two_sample_test({"a": x[0], "b": turned}, {"a": x[2], "b": x[3]})
    assert result.auc == pytest.approx(0.5 + 0.9 / 4, abs=0.03)  # shares of 0.95 and 0.5 have the same sign
    assert min(result.importance.values()) > 0.1


def test_bad_input_is_named():
    with pytest.raises(InputError, match="generated has 50 jets: at least 134 are needed for 4 folds"):
        classifier_two_sample_test(gaussians(50, 1), gaussians(500, 2))
    with pytest.raises(InputError, match="reference: observable z is missing"):
        classifier_two_sample_test({**gaussians(500, 1), "z": np.zeros(500)}, gaussians(500, 2), names=["z"])
    with pytest.raises(InputError, match="no observable in common"):
        classifier_two_sample_test({"x": [1.0]}, {"y": [1.0]})
    with pytest.raises(InputError, match="generated: a is not finite"):
        classifier_two_sample_test(gaussians(500, 1) | {"a": np.full(500, np.nan)}, gaussians(500, 2))
