"""The two-sample test against the best possible classifier, and on samples that are alike."""

import numpy as np
import pytest
from scipy.stats import norm

from eval.errors import InputError
from eval.fidelity.boosting import fit_boosted_trees
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


def test_trees_learn_exclusive_or():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(float)
    model = fit_boosted_trees(x, labels, n_trees=60)
    fresh = rng.uniform(-1, 1, (2000, 2))
    right = (model.log_odds(fresh) > 0) == (fresh[:, 0] * fresh[:, 1] > 0)
    assert right.mean() > 0.95


def test_log_odds_are_calibrated():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 1))
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
    grid = np.linspace(-1.5, 1.5, 7)[:, None]
    np.testing.assert_allclose(fit_boosted_trees(x, labels).log_odds(grid), grid[:, 0], atol=0.3)


def test_a_constant_feature_is_harmless():
    rng = np.random.default_rng(2)
    x = np.stack([np.full(1000, 3.0), rng.normal(size=1000)], axis=1)
    model = fit_boosted_trees(x, (x[:, 1] > 0).astype(float), n_trees=20)
    assert ((model.log_odds(x) > 0) == (x[:, 1] > 0)).mean() > 0.95


def test_bad_input_is_named():
    with pytest.raises(InputError, match="generated has 50 jets: at least 134 are needed for 4 folds"):
        classifier_two_sample_test(gaussians(50, 1), gaussians(500, 2))
    with pytest.raises(InputError, match="reference: observable z is missing"):
        classifier_two_sample_test({**gaussians(500, 1), "z": np.zeros(500)}, gaussians(500, 2), names=["z"])
    with pytest.raises(InputError, match="no observable in common"):
        classifier_two_sample_test({"x": [1.0]}, {"y": [1.0]})
    with pytest.raises(InputError, match="generated: a is not finite"):
        classifier_two_sample_test(gaussians(500, 1) | {"a": np.full(500, np.nan)}, gaussians(500, 2))
