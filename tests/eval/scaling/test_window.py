"""Reference levels from tokens and the learnable window, against closed forms; and the figures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.common.results import plain
from eval.scaling import (
    InputError,
    ReferenceLevels,
    ReferenceModels,
    class_levels,
    contrast,
    fit,
    get_law,
    grid,
    isoflop,
    reference_levels,
    sensitivity,
    simulate,
    window,
)
from eval.scaling.entropy import conditional_entropy

TRUTH = {"E": 2.0, "A": 60.0, "alpha": 0.4, "B": 90.0, "beta": 0.3}
N, D = grid(np.geomspace(1e4, 1e7, 6), np.geomspace(1e5, 1e9, 10))


@pytest.fixture(scope="module")
def points():
    return simulate(get_law("additive"), TRUTH, noise=2e-3, seed=1, N=N, D=D)


@pytest.fixture(scope="module")
def result(points):
    return fit(points, bootstrap=100)


def markov(vocabulary, sequences, length, rng):
    """Sequences of a stationary Markov chain, with its transition and start laws."""
    transition = rng.dirichlet(np.full(vocabulary, 0.5), size=vocabulary)
    values, vectors = np.linalg.eig(transition.T)
    start = np.real(vectors[:, np.argmax(np.real(values))])
    start = start / start.sum()
    tokens = np.empty((sequences, length), dtype=int)
    tokens[:, 0] = rng.choice(vocabulary, size=sequences, p=start)
    cumulative = transition.cumsum(axis=1)
    for i in range(1, length):
        u = rng.random((sequences, 1))
        tokens[:, i] = np.minimum((u > cumulative[tokens[:, i - 1]]).sum(axis=1), vocabulary - 1)
    return tokens, transition, start


def rows_of(tokens):
    """Sequences of one length, as the reference models take them."""
    return tokens.ravel(), np.arange(0, tokens.size + 1, tokens.shape[1])


def test_levels_of_a_markov_chain_are_its_entropies():
    tokens, transition, start = markov(40, 8000, 20, np.random.default_rng(0))
    levels = reference_levels(rows_of(tokens[:6000]), rows_of(tokens[6000:]), 40)
    unigram = -np.sum(start * np.log(start))
    rate = -np.sum(start[:, None] * transition * np.log(transition))
    bigram = (unigram + 19 * rate) / 20
    assert levels.levels["uniform"] == pytest.approx(np.log(40))
    for name, truth in {"unigram": unigram, "position": unigram, "bigram": bigram}.items():
        assert levels.levels[name] == pytest.approx(truth, abs=5e-3)
        # A table has a bias of about (parameters) / (2 events): 40 x 39 / 240,000 for the bigram.
        assert levels.held_out[name] == pytest.approx(truth, abs=4 * levels.errors[name] + 7e-3)
    assert (levels.n_tokens, levels.n_jets, levels.tokens_per_jet) == (40_000, 2000, 20)


def test_position_carries_information_where_the_law_depends_on_it():
    rng = np.random.default_rng(2)
    tokens = np.stack([rng.integers(0, 4, 4000), rng.integers(4, 6, 4000), np.full(4000, 7)], axis=1)
    levels = reference_levels(rows_of(tokens[:3000]), rows_of(tokens[3000:]), 8).levels
    assert levels["position"] == pytest.approx((np.log(4) + np.log(2)) / 3, abs=3e-3)
    mixture = np.array([1 / 12] * 4 + [1 / 6] * 2 + [1 / 3])
    assert levels["unigram"] == pytest.approx(-np.sum(mixture * np.log(mixture)), abs=1e-2)


def test_level_and_held_out_loss_bracket_the_truth_of_few_jets():
    """With one to three events per cell of the table, the level is a little too low and the held-out loss too high."""
    tokens, transition, start = markov(100, 2500, 20, np.random.default_rng(3))
    rate = -np.sum(start[:, None] * transition * np.log(transition))
    truth = (-np.sum(start * np.log(start)) + 19 * rate) / 20
    gaps = []
    for n in (500, 1500):
        levels = reference_levels(rows_of(tokens[:n]), rows_of(tokens[1500:]), 100)
        assert levels.levels["bigram"] < truth < levels.held_out["bigram"]
        assert truth - levels.levels["bigram"] < 0.3 * (levels.held_out["bigram"] - truth)
        gaps.append(levels.held_out["bigram"] - levels.levels["bigram"])
    assert gaps[1] < 0.6 * gaps[0]


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_probabilities_of_every_table_add_up_to_one(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, 30)
    lengths[0] = 3
    offsets = np.append(0, np.cumsum(lengths))
    models = ReferenceModels((rng.integers(0, 5, offsets[-1]), offsets), 5)
    # The last token after a fixed beginning is each of the vocabulary in turn: all else is the same.
    endings = np.array([[2, 4, token] for token in range(5)])
    beginnings = models.nats(rows_of(endings[:, :2]))
    for name, nats in models.nats(rows_of(endings)).items():
        assert np.exp(beginnings[name] - nats).sum() == pytest.approx(1.0), name


def refined(tokens, m, rng):
    """Each code but the last, which stops a jet, split in m equally likely cells."""
    stop = tokens.max()
    return np.where(tokens == stop, m * stop, m * tokens + rng.integers(0, m, tokens.shape))


def test_refining_the_codebook_changes_the_share_and_not_the_window():
    """Each code is split in m equally likely cells, which hold nothing to learn: ln m more for every model."""
    rng = np.random.default_rng(6)
    tokens, _, _ = markov(4, 6000, 12, rng)
    tokens = np.concatenate([tokens, np.full((6000, 1), 4)], axis=1)
    windows, shares = [], []
    for m in (1, 4, 16):
        codes = refined(tokens, m, rng)
        levels = reference_levels(rows_of(codes[:4000]), rows_of(codes[4000:]), 4 * m + 1)
        floor = 0.9 + 12 / 13 * np.log(m)  # of the best model: what the cells of 12 particles cost is added
        law = {"E": floor, "A": 60.0, "alpha": 0.4, "B": 90.0, "beta": 0.3}
        found = window(levels, fit(simulate(get_law("additive"), law, N=N, D=D), bootstrap=0))
        assert found.start == "bigram"
        windows.append(found.main.window_per_jet.value)
        shares.append(found.levels["uniform"].share.value)
        assert found.main.window_per_jet.value == pytest.approx(13 * found.main.window.value)
    assert windows == pytest.approx([windows[0]] * 3, abs=0.05)
    assert shares[0] > 1.5 * shares[1] > 2 * shares[2]


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_levels_do_not_depend_on_names_of_tokens_or_order_of_sequences(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, 60)
    pieces = [rng.integers(0, 6, n) for n in lengths]
    renamed, shuffled = rng.permutation(6), rng.permutation(60)

    def sequences(order, names):
        return names[np.concatenate([pieces[i] for i in order])], np.append(0, np.cumsum(lengths[order]))

    base, other = (
        reference_levels(sequences(order, names), sequences(order, names), 6)
        for order, names in ((np.arange(60), np.arange(6)), (shuffled, renamed))
    )
    assert other.levels == pytest.approx(base.levels, abs=1e-12)
    assert other.held_out == pytest.approx(base.held_out, abs=1e-12)


def test_a_start_token_is_given_not_predicted():
    rng = np.random.default_rng(5)
    pieces = [np.append(rng.integers(1, 5, n), 5) for n in rng.integers(1, 9, 200)]
    offsets = np.append(0, np.cumsum([len(p) for p in pieces]))
    opened = [np.append(0, p) for p in pieces]
    plain = (np.concatenate(pieces), offsets)
    given_start = (np.concatenate(opened), offsets + np.arange(201))
    assert reference_levels(given_start, given_start, 6, start_token=0) == reference_levels(plain, plain, 6)


def test_empty_sequences_are_allowed_and_bad_ones_named():
    assert reference_levels(([1, 2, 1], [0, 0, 3]), ([1, 2, 1], [0, 0, 3]), 4).n_jets == 1
    for tokens, offsets, message in [
        ([1, 2], [0, 3], "offsets: must rise from 0 to the number of tokens, 2"),
        ([1, 9], [0, 2], r"tokens: found 9, outside the vocabulary 0..3"),
        ([-1, 2], [0, 2], r"tokens: found -1, outside the vocabulary"),
        ([1.5, 2.0], [0, 2], "tokens: expected a one-dimensional array of integers, found float64"),
    ]:
        with pytest.raises(InputError, match=message):
            ReferenceModels((tokens, offsets), 4)


def test_correction_removes_most_of_the_bias_of_few_samples():
    rng, k = np.random.default_rng(3), 200
    corrected, plug_in = [], []
    for _ in range(100):
        x = rng.integers(0, k, 300)
        value, surprise = conditional_entropy(x, np.zeros(300, dtype=int))
        corrected.append(value)
        plug_in.append(surprise.mean())
    assert abs(np.mean(corrected) - np.log(k)) < 0.1 * abs(np.mean(plug_in) - np.log(k))


def test_levels_of_a_tagger():
    levels = class_levels([1000] * 10).levels
    assert levels["uniform"] == pytest.approx(np.log(10))
    assert levels["prior"] == pytest.approx(np.log(10), abs=1e-3)
    assert class_levels([9000, 1000]).levels["prior"] == pytest.approx(0.325083, abs=1e-3)
    with pytest.raises(InputError, match="jets of two or more classes"):
        class_levels([5])


def test_window_closed_form(points):
    clean = simulate(get_law("additive"), TRUTH, N=N, D=D)
    found = window({"uniform": 6.0}, fit(clean, bootstrap=0))
    level = found.levels["uniform"]
    assert level.window.value == pytest.approx(4.0, rel=1e-6)
    assert level.share.value == pytest.approx(4 / 6, rel=1e-6)
    assert level.reached.value == pytest.approx((6 - clean.L.min()) / 4, rel=1e-6)
    scales = {(s.variable, s.occupancy): s.scale.value for s in level.saturation}
    assert scales["N", 0.9] == pytest.approx((60 / 0.4) ** (1 / 0.4), rel=1e-5)
    assert scales["D", 0.99] == pytest.approx((90 / 0.04) ** (1 / 0.3), rel=1e-5)
    at, _, _ = found.occupancy("uniform", "C", [scales["C", 0.95]])
    assert at[0] == pytest.approx(0.95)


def test_saturation_in_compute_is_on_the_compute_optimal_line(result):
    found = window({"uniform": 6.0}, result)
    scale = next(s for s in found.levels["uniform"].saturation if s.variable == "C" and s.occupancy == 0.9)
    n = np.geomspace(1e2, 1e9, 20_000)
    best = result.predict(N=n, D=scale.scale.value / (6 * n)).min()
    assert (6 - best) / (6 - result.params["E"].value) == pytest.approx(0.9, abs=1e-5)
    assert scale.beyond_data == pytest.approx(scale.scale.value / (6 * N.max() * D.max()))


def test_window_has_intervals_that_hold_the_truth(points, result):
    found = window({"uniform": 6.0, "unigram": 5.0}, result, variants=sensitivity(points, bootstrap=0))
    for name, reference in {"uniform": 6.0, "unigram": 5.0}.items():
        low, high = found.levels[name].window.ci95
        assert low < reference - 2.0 < high
    scale = found.levels["uniform"].saturation[0].scale
    assert scale.ci95[0] < (60 / 0.4) ** 2.5 < scale.ci95[1]
    assert "without the smallest D" in found.sensitivity
    assert len(found.rows()) == 18
    assert json.dumps(plain(found), allow_nan=False)


def test_window_of_a_law_of_one_variable():
    x = np.geomspace(1e5, 1e10, 24)
    curve = simulate(get_law("power", "D"), {"E": 0.3, "B": 9.0, "beta": 0.25}, noise=1e-3, D=x)
    found = window(class_levels([100] * 10), fit(curve, "power", variable="D", bootstrap=50))
    assert {s.variable for s in found.levels["uniform"].saturation} == {"D"}
    with pytest.raises(InputError, match="variable: C is not one of D"):
        found.occupancy("uniform", "C", [1.0])


def test_a_saturation_scale_the_points_cannot_give_is_not_identified():
    n, d = grid(np.geomspace(1e4, 2e4, 4), np.geomspace(1e5, 1e9, 6))
    near = simulate(get_law("additive"), TRUTH, noise=1e-2, seed=3, N=n, D=d)
    found = window({"uniform": 6.0}, fit(near, bootstrap=80))
    scale = next(s for s in found.levels["uniform"].saturation if s.variable == "N" and s.occupancy == 0.99)
    assert scale.scale.identified is False


def test_saturation_scales_are_judged_by_the_rule_of_all_scales(result):
    wide = result.samples.copy()
    wide[:, 4] *= np.exp(0.05 * np.random.default_rng(0).standard_normal(len(wide)))  # beta
    found = window({"uniform": 6.0}, replace(result, samples=wide))
    scales = [s.scale for level in found.levels.values() for s in level.saturation]
    assert {e.identified for e in scales} == {True, False}
    assert all(e == e.judged("scale") for e in scales)


def test_without_a_floor_no_saturation_is_identified(result):
    """A floor on its bound cuts the interval of the scale short, which then looks narrow."""
    floor = replace(result.params["E"], identified=False, reason="the 95% interval runs into its lower bound")
    found = window({"uniform": 6.0}, replace(result, params={**result.params, "E": floor}))
    for saturation in found.levels["uniform"].saturation:
        assert saturation.scale.identified is False
        assert saturation.scale.reason.startswith("L_inf is not identified: the 95% interval runs into")


def test_window_refuses_what_has_none(points, result):
    with pytest.raises(
        InputError, match="nothing to learn below the uniform level, 1 is not above the floor 2"
    ):
        window({"uniform": 1.0}, result)
    with pytest.raises(
        InputError, match="nothing to learn below the bigram level, 1 is not above the floor 2"
    ):
        window({"uniform": 6.0, "bigram": 1.0}, result)
    partly = window({"uniform": 6.0, "unigram": 1.0, "bigram": 3.0}, result)
    assert list(partly.levels) == ["uniform", "bigram"]
    assert "1 is not above the floor 2" in partly.excluded["unigram"]
    with pytest.raises(InputError, match="law logarithmic has no floor"):
        window({"uniform": 6.0}, fit(points, "logarithmic", variable="N", bootstrap=0))


def test_contrast_starts_at_the_bigram_and_at_the_class_shares(result):
    generation = window(ReferenceLevels({"uniform": 6.0, "bigram": 5.0}, tokens_per_jet=40.0), result)
    tagging = window({"uniform": 4.5, "prior": 4.0}, result)
    rows = contrast({"generation": generation, "tagging": tagging})
    assert [(r["task"], r["level"], r["reference"]) for r in rows] == [
        ("generation", "bigram", 5.0),
        ("tagging", "prior", 4.0),
    ]
    assert rows[0]["window_per_jet"] == pytest.approx(40 * rows[0]["window"])
    assert rows[1]["window_per_jet"] == rows[1]["window"]
    assert rows[0]["C_0.9"] < rows[1]["C_0.9"]  # the wider window is filled to 90 % with less compute


def test_every_figure_draws_what_its_result_holds(points, result, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from eval.scaling import figures

    one = fit(points, "power", variable="N", bootstrap=20)
    found = window({"uniform": 6.0}, result)
    drawn = {
        "panel": figures.fit_panel(points, result),
        "panels": figures.fit_panels({"both": (points, result), "one": (points, one)}),
        "slices": figures.isoflop_slices(isoflop(points)),
        "residuals": figures.residuals(points, result),
        "corner": figures.corner(result),
        "window": figures.window_figure({"generation": found, "tagging": found}),
    }
    assert len(drawn["panel"].axes[0].collections) == 10  # a band for each D
    assert [ax.get_xlabel() for ax in drawn["residuals"].axes] == [figures.UNITS[k] for k in "NDC"]
    assert sum(ax.get_visible() for ax in drawn["corner"].axes) == 15
    assert [t.get_text() for t in drawn["window"].axes[0].get_legend().get_texts()] == [
        "generation, from the uniform",
        "tagging, from the uniform",
    ]
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png", dpi=30)
        plt.close(figure)
    with pytest.raises(InputError, match="no bootstrap"):
        figures.corner(fit(points, bootstrap=0))
    with pytest.raises(InputError, match="variable: C is not one of N, D"):
        figures.fit_panel(points, result, "C")
    with pytest.raises(InputError, match="a fit in N has no compute axis"):
        figures.window_figure({"generation": window({"uniform": 9.0}, one)})
