"""Tagger scores against counting by hand; R(L) and what it predicts against known truths."""

import json

import numpy as np
import pytest
from scipy.stats import binom, norm

from eval.common.errors import InputError
from eval.common.results import plain
from eval.scaling import fit, get_law, grid, simulate
from eval.tagging.law import fit_rejection_law, rejection_law
from eval.tagging.prediction import ExpectedLoss, expected_loss, predict_rejection, roc_law
from eval.tagging.rejection import rejection
from eval.tagging.score import discriminant, score_tagger

NAMES = ["QCD", "Hbb", "Hqql", "Tbl"]
TRUTH = (20_000.0, -5.0, 4.0)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def gaussian_tagger(separation, n=8000, noise=None):
    """Bayes-optimal probabilities of classes whose features are unit Gaussians about separated corners."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, len(NAMES), n)
    x = rng.normal(size=(n, len(NAMES))) if noise is None else noise
    return softmax(separation * (x + separation * np.eye(len(NAMES))[labels])), labels


def test_scores_agree_with_counting():
    p, y = gaussian_tagger(2.0)
    score = score_tagger(p, y, NAMES, bootstrap=20)
    assert score.loss == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean())
    assert score.accuracy == (p.argmax(1) == y).mean()
    assert list(score.signals) == NAMES[1:]
    for name, efficiency in {"Hbb": 0.5, "Hqql": 0.99, "Tbl": 0.995}.items():
        part, k = score.signals[name], NAMES.index(name)
        ratio = p[:, k] / (p[:, k] + p[:, 0])
        expected = rejection(ratio[y == k], ratio[y == 0], efficiency)
        assert part.working_point.efficiency == efficiency
        assert part.working_point.n_kept == expected.n_kept == part.kept[part.at(efficiency)]
        assert (np.diff(part.kept) >= 0).all()
        for e in part.efficiencies:
            assert rejection(ratio[y == k], ratio[y == 0], float(e)).n_kept == part.kept[part.at(e)]
        assert part.ci68[0] < part.working_point.value < part.ci68[1]
    json.dumps(score.to_dict(), allow_nan=False)


def test_balanced_losses_do_not_depend_on_how_much_background_there_is():
    p, y = gaussian_tagger(1.0)
    # Every background jet three times: nothing is learned of the classes, but each counts for less.
    more = np.concatenate([np.arange(len(y)), np.repeat(np.flatnonzero(y == 0), 2)])
    few = score_tagger(p, y, NAMES, balanced=True, bootstrap=100)
    many = score_tagger(p[more], y[more], NAMES, balanced=True, bootstrap=100)
    assert many.loss == pytest.approx(few.loss)
    assert many.accuracy == pytest.approx(few.accuracy)
    assert many.loss != pytest.approx(score_tagger(p[more], y[more], NAMES, bootstrap=1).loss, rel=1e-3)
    by_class = [-np.log(p[y == k, k]) for k in range(len(NAMES))]
    assert few.loss == pytest.approx(np.mean([losses.mean() for losses in by_class]))
    error = np.sqrt(sum(losses.var() / len(losses) for losses in by_class)) / len(NAMES)
    assert few.loss_error == pytest.approx(error, rel=0.05)
    assert np.std(few.loss_replicas) == pytest.approx(few.loss_error, rel=0.3)


def test_discriminant_orders_jets_where_probabilities_have_saturated():
    p = np.array([[1e-20, 1.0, 0], [1e-30, 1.0, 0], [0.0, 1.0, 0]], dtype=np.float32)
    assert (np.diff(discriminant(p, 1, 0)) > 0).all()
    assert np.isfinite(discriminant(p, 1, 0)).all()


def test_tied_jets_stand_or_fall_together():
    p = np.tile([0.25, 0.75], (40, 1))
    y = np.repeat([0, 1], 20)
    part = score_tagger(p, y, ["QCD", "Hbb"], bootstrap=5).signals["Hbb"]
    assert (part.kept == 20).all()
    assert (part.kept_replicas == part.background_replicas[:, None]).all()


def test_no_background_kept_is_a_limit_and_says_so():
    p, y = gaussian_tagger(8.0, n=400)
    part = score_tagger(p, y, NAMES, bootstrap=10).signals["Hbb"]
    assert part.working_point.n_kept == 0
    assert part.ci95 == (part.working_point.limit95, np.inf)
    # None of n: the 95 % limit on the share is 1 - .05^(1/n), three events.
    assert part.working_point.limit95 == pytest.approx(1 / (1 - 0.05 ** (1 / part.n_background)))
    assert "only a limit" in part.note
    assert part.to_dict()["rejection"] is None


def test_same_seed_same_replicas_and_shared_jets():
    p, y = gaussian_tagger(2.0)
    one, two = (score_tagger(p, y, NAMES, bootstrap=10, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.signals["Hbb"].kept_replicas, two.signals["Hbb"].kept_replicas)
    better, _ = gaussian_tagger(2.5)
    other = score_tagger(better, y, NAMES, bootstrap=10, seed=3)
    np.testing.assert_array_equal(
        one.signals["Hbb"].background_replicas, other.signals["Tbl"].background_replicas
    )
    assert one.test_set == other.test_set != score_tagger(p, y, NAMES, bootstrap=10, seed=4).test_set


@pytest.mark.slow
def test_bootstrap_interval_covers_the_rejection_when_the_threshold_is_uncertain():
    """200 signal jets at 90 % efficiency: the threshold's error exceeds that of the background."""
    truth = 1 / norm.sf(norm.isf(0.9) + 2 * 1.5)
    rng, hits, binomial = np.random.default_rng(0), 0, 0
    for _ in range(150):
        signal, background = rng.normal(3, 1, 200), rng.normal(0, 1, 5000)
        score = np.concatenate([background, signal])
        p = np.column_stack([1 / (1 + np.exp(score)), 1 / (1 + np.exp(-score))])
        part = score_tagger(
            p, np.repeat([0, 1], [5000, 200]), ["QCD", "Hbb"], efficiencies=[0.9], bootstrap=100
        )
        column = part.signals["Hbb"].at(0.9)
        values = part.signals["Hbb"].background_replicas / part.signals["Hbb"].kept_replicas[:, column]
        low, high = np.quantile(values, [0.16, 0.84])
        hits += low <= truth <= high
        plain = rejection(signal, background, 0.9)
        binomial += plain.low <= truth <= plain.high
    assert binom.ppf(1e-3, 150, 0.62) <= hits <= binom.ppf(0.999, 150, 0.75)
    assert binomial < hits


def counts(rng, loss, n_background, scatter=0.0):
    a, b, c = TRUTH
    mean = (a * np.exp(b * loss) + c) * np.exp(scatter * rng.standard_normal(len(loss)))
    return rng.binomial(n_background, 1 / mean)


def test_expected_counts_give_the_law_back():
    loss = np.linspace(0.3, 1.9, 30)
    a, b, c = TRUTH
    law = fit_rejection_law(loss, 4000 / (a * np.exp(b * loss) + c), 4000)
    for name, value in zip("ABC", TRUTH, strict=True):
        assert law.fit.params[name].value == pytest.approx(value, rel=1e-6)
    assert law.chi2 == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(law.residual, 0, atol=1e-6)
    json.dumps(law.to_dict(), allow_nan=False)


def test_scatter_between_runs_is_found_where_there_is_one():
    rng = np.random.default_rng(2)
    loss = np.linspace(0.6, 1.9, 30)
    quiet = fit_rejection_law(loss, counts(rng, loss, 200_000), 200_000)
    assert quiet.p_value > 0.01
    assert quiet.scatter < 0.05
    scattered = fit_rejection_law(loss, counts(rng, loss, 2_000_000, scatter=0.2), 2_000_000)
    assert scattered.p_value < 1e-6
    assert scattered.scatter == pytest.approx(0.2, rel=0.35)


def test_taggers_that_keep_nothing_stay_in_and_bias_nothing():
    """Over repetitions with counts down to zero, 95 % intervals hold the truth and the mean estimate is right."""
    rng, loss = np.random.default_rng(4), np.linspace(0.2, 1.9, 30)
    slopes, inside, empty = [], 0, 0
    for i in range(40):
        kept = counts(rng, loss, 3000)
        empty += (kept == 0).any()
        estimate = fit_rejection_law(loss, kept, 3000, bootstrap=100, seed=i).fit.params["B"]
        slopes.append(estimate.value)
        inside += estimate.ci95[0] <= TRUTH[1] <= estimate.ci95[1]
    assert empty > 20
    assert inside >= binom.ppf(1e-3, 40, 0.93)
    assert abs(np.mean(slopes) - TRUTH[1]) < 3 * np.std(slopes) / np.sqrt(40)


def coverage(trials, seed, n_background, scatter):
    loss = np.linspace(0.3, 1.9, 24)
    rng, hits = np.random.default_rng(seed), {"A": 0, "B": 0, "R": 0}
    for i in range(trials):
        kept = counts(rng, loss, n_background, scatter)
        law = fit_rejection_law(loss, kept, n_background, bootstrap=150, seed=i)
        for name, value in {"A": TRUTH[0], "B": TRUTH[1]}.items():
            low, high = law.fit.params[name].ci68
            hits[name] += low <= value <= high
        at = ExpectedLoss("here", 0.4, np.full(10, 0.4))
        low, high = predict_rejection(law, at).rejection.ci68
        hits["R"] += low <= TRUTH[0] * np.exp(TRUTH[1] * 0.4) + TRUTH[2] <= high
    return hits


@pytest.mark.slow
@pytest.mark.parametrize(("n_background", "scatter"), [(4000, 0.0), (200_000, 0.0), (20_000, 0.15)])
def test_intervals_cover_the_truth(n_background, scatter):
    """Also where the best taggers keep one jet or none."""
    hits = coverage(150, 0, n_background, scatter)
    for name, count in hits.items():
        assert binom.ppf(5e-4, 150, 0.62) <= count <= binom.ppf(0.9995, 150, 0.74), (name, hits)


def test_shared_test_jets_widen_the_interval():
    """Taggers that keep the same jets fluctuate together: 40 of them know R no better than one does."""
    rng = np.random.default_rng(0)
    n, replicas = 2000, 100
    loss = np.linspace(0.8, 1.5, 40)
    hardness = rng.random(n)
    share = 1 / (3000 * np.exp(-4 * loss) + 3)
    kept = (hardness[:, None] < share).sum(axis=0)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=replicas)
    again = drawn @ (hardness[:, None] < share)
    log_rejection = np.log((n + 1) / (again + 0.5))
    shared = fit_rejection_law(loss, kept, n, log_rejection_replicas=log_rejection)
    alone = fit_rejection_law(loss, kept, n)
    widths = [np.ptp(law.fit.predict_interval(L=1.15)) for law in (shared, alone)]
    assert widths[0] > 2 * widths[1]


def test_prediction_carries_both_uncertainties():
    loss = np.linspace(0.6, 1.9, 30)
    law = fit_rejection_law(loss, counts(np.random.default_rng(2), loss, 200_000), 200_000)
    sharp = predict_rejection(law, ExpectedLoss("D = 1e+05", 0.8, np.full(100, 0.8)))
    normal = 0.8 + 0.05 * np.random.default_rng(0).standard_normal(500)
    blurred = predict_rejection(law, ExpectedLoss("D = 1e+05", 0.8, normal))
    assert sharp.rejection.value == blurred.rejection.value == pytest.approx(float(law.fit.predict(L=0.8)))
    width = np.diff(np.log(blurred.rejection.ci68))[0]
    # d ln R = B A exp(B L)/R dL, and twice the standard deviation in a 68 % interval.
    share = 1 - TRUTH[2] / sharp.rejection.value
    assert width == pytest.approx(2 * 5 * share * 0.05, rel=0.2)
    assert sharp.beyond_nats == 0
    assert sharp.note == ""


def test_far_extrapolation_is_called_not_identified():
    loss = np.linspace(1.0, 1.4, 12)
    law = fit_rejection_law(loss, counts(np.random.default_rng(1), loss, 5000), 5000)
    wide = ExpectedLoss("the limit", 0.2, np.random.default_rng(0).uniform(0.0, 0.7, 300))
    prediction = predict_rejection(law, wide)
    assert prediction.rejection.identified is False
    assert "decades" in prediction.rejection.reason or "slope" in prediction.rejection.reason
    assert "extrapolated by 0.8 nats below the lowest loss measured (1.000)" in prediction.note
    floorless = predict_rejection(
        law, ExpectedLoss("the limit", 1.1, np.full(9, 1.1), "L_inf is not identified: x")
    )
    assert floorless.rejection.reason == "L_inf is not identified: x"


def test_expected_losses_of_a_law():
    n, d = grid(np.geomspace(1e3, 1e6, 6), np.geomspace(1e4, 1e7, 6))
    values = {"E": 0.3, "A": 11.0, "alpha": 0.44, "B": 7.0, "beta": 0.25}
    result = fit(simulate(get_law("additive"), values, N=n, D=d, C=240 * n * d), bootstrap=20)
    assert expected_loss(result).value == pytest.approx(0.3, rel=1e-6)
    assert expected_loss(result).where == "the limit"
    assert expected_loss(result, D=1e6).value == pytest.approx(0.3 + 7 / 1e6**0.25, rel=1e-6)
    assert expected_loss(result, N=1e5, D=1e6).value == pytest.approx(
        float(result.predict(N=1e5, D=1e6)), rel=1e-9
    )
    best = expected_loss(result, flops=1e15)
    sizes = np.geomspace(1e3, 1e8, 20_001)
    assert best.value == pytest.approx(float(result.predict(N=sizes, D=1e15 / 240 / sizes).min()), rel=1e-6)
    with pytest.raises(InputError, match="U: law additive is one of N, D"):
        expected_loss(result, U=1e6)
    with pytest.raises(InputError, match="no bootstrap"):
        expected_loss(fit(simulate(get_law("additive"), values, N=n, D=d), bootstrap=0))


@pytest.fixture(scope="module")
def ladder():
    """Ten taggers on one test set, better and better."""
    noise = np.random.default_rng(6).normal(size=(8000, len(NAMES)))
    made = [gaussian_tagger(s, noise=noise) for s in np.linspace(0.8, 2.6, 10)]
    return [score_tagger(p, y, NAMES, bootstrap=60) for p, y in made]


def test_roc_of_the_limit_is_a_roc_curve_and_beats_finite_data(ladder):
    law = roc_law(ladder, "Hbb", [0.3, 0.5, 0.7, 0.9])
    best = min(score.loss for score in ladder)
    limit = law.at(ExpectedLoss("the limit", best - 0.05, np.full(50, best - 0.05)))
    finite = law.at(ExpectedLoss("D = 1e+04", best + 0.1, np.full(50, best + 0.1)))
    assert (np.diff(limit.rejection) <= 0).all()
    assert (limit.rejection >= finite.rejection).all()
    assert (limit.low <= limit.high).all()
    measured = ladder[-1].signals["Hbb"]
    here = law.at(ExpectedLoss("best", ladder[-1].loss, np.full(50, ladder[-1].loss)))
    for e, r in zip(here.efficiencies, here.rejection, strict=True):
        kept, expected = measured.kept[measured.at(e)], measured.n_background / r
        assert abs(kept - expected) < 4 * np.sqrt(expected)
    json.dumps(plain(limit), allow_nan=False)


def test_a_small_test_set_is_named_as_the_reason():
    """Of 180 QCD jets the better taggers keep hardly any."""
    made = [
        score_tagger(p[:700], y[:700], NAMES, bootstrap=20)
        for p, y in map(gaussian_tagger, np.linspace(2, 4, 8))
    ]
    law = rejection_law(made, "Hbb")
    assert "keep 10 or more background jets" in law.fit.params["B"].reason


def test_taggers_of_different_test_sets_do_not_mix(ladder):
    p, y = gaussian_tagger(1.0, n=500)
    with pytest.raises(InputError, match="different test sets"):
        rejection_law([*ladder, score_tagger(p, y, NAMES, bootstrap=60)], "Hbb")
    with pytest.raises(InputError, match=r"efficiency 0\.123 was not scored"):
        rejection_law(ladder, "Hbb", 0.123)
    with pytest.raises(InputError, match="at least two replicas are needed for an interval, found 1"):
        rejection_law([score_tagger(p, y, NAMES, bootstrap=1)] * 4, "Hbb")
    with pytest.raises(InputError, match="signal: Xyz is not one of Hbb, Hqql, Tbl"):
        rejection_law(ladder, "Xyz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1]}, "one whole number for each of 3 jets"),
        ({"labels": [0, 1, 2]}, "must lie in 0 to 1, found 0 to 2"),
        ({"labels": [1, 1, 1]}, "there are no QCD jets"),
        ({"class_names": ["QCD"]}, "1 names for 2 columns"),
        ({"class_names": ["A", "B"]}, "QCD is missing"),
        (
            {"probabilities": [[2.0, -1], [0.5, 0.5], [1, 0]]},
            "row 0 does not hold probabilities.*not the logits",
        ),
        ({"bootstrap": 0}, "at least one replica"),
    ],
)
def test_bad_predictions_are_named(change, message):
    good = {"probabilities": [[0.5, 0.5]] * 3, "labels": [0, 1, 1], "class_names": ["QCD", "Hbb"]}
    with pytest.raises(InputError, match=message):
        score_tagger(**(good | change))
