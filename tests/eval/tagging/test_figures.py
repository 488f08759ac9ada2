"""Figures of tagging: every tagger is shown, limits as limits, and what is not identified as such."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from eval.common.errors import InputError
from eval.tagging.calibration import calibrate
from eval.tagging.figures import rejection_against_loss, reliability_curves, roc_limit
from eval.tagging.law import fit_rejection_law, rejection_laws
from eval.tagging.prediction import ExpectedLoss, predict_rejection, roc_law
from eval.tagging.score import score_tagger

NAMES = ["QCD", "Hbb", "Tbl"]


@pytest.fixture(scope="module")
def taggers():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 3000)
    noise = rng.normal(size=(3000, 3))
    made = []
    for separation in np.linspace(0.8, 2.2, 7):
        e = np.exp(separation * (noise + separation * np.eye(3)[labels]))
        made.append(e / e.sum(axis=1, keepdims=True))
    return made, labels, [score_tagger(p, labels, NAMES, bootstrap=40) for p in made]


def test_every_tagger_is_drawn_and_a_limit_is_an_arrow(taggers):
    *_, scores = taggers
    figure = rejection_against_loss(rejection_laws(scores))
    assert len([ax for ax in figure.axes if ax.get_visible()]) == 2
    for ax in figure.axes:
        assert sum(len(c.lines[0].get_xdata()) for c in ax.containers) == len(scores)
    loss = np.linspace(0.2, 1.8, 20)
    kept = np.where(loss < 0.4, 0, np.round(2000 / (2e4 * np.exp(-5 * loss) + 4)))
    law = fit_rejection_law(loss, kept, 2000, name="Hbb")
    ax = rejection_against_loss({"Hbb": law}).axes[0]
    arrows = next(c for c in ax.containers if c.get_label() == "nothing kept")
    assert len(arrows.lines[1][0].get_xdata()) == (kept == 0).sum() > 0


def test_unidentified_predictions_are_open_and_endless_ones_left_out(taggers):
    *_, scores = taggers
    laws = rejection_laws(scores)
    law, best = laws["Tbl"], min(s.loss for s in scores)
    known = predict_rejection(law, ExpectedLoss("D = 1e+05", best, np.full(50, best)))
    unknown = predict_rejection(
        law, ExpectedLoss("the limit", best, np.full(50, best), "L_inf is not identified")
    )
    endless = predict_rejection(law, ExpectedLoss("nowhere", -400.0, np.full(50, -400.0)))
    figure = rejection_against_loss(laws, {"Tbl": [known, unknown, endless]})
    drawn = {c.get_label(): c.lines[0] for c in figure.axes[1].containers}
    assert drawn["predicted, the limit"].get_markerfacecolor() == "white"
    assert drawn["predicted, D = 1e+05"].get_markerfacecolor() != "white"
    assert "predicted, nowhere" not in drawn


def test_roc_figure_shows_bands_and_measurements(taggers):
    *_, scores = taggers
    law = roc_law(scores, "Hbb", [0.5, 0.7, 0.9])
    bands = [
        law.at(ExpectedLoss(where, x, np.full(50, x))) for where, x in {"D": 0.7, "the limit": 0.5}.items()
    ]
    ax = roc_limit(bands, {"best": scores[-1].signals["Hbb"]}).axes[0]
    assert sum(isinstance(c, PolyCollection) for c in ax.collections) == 2
    measured = ax.containers[0].lines[0].get_ydata()
    part = scores[-1].signals["Hbb"]
    np.testing.assert_allclose(measured, (part.n_background / part.kept[part.kept > 0]))


def test_reliability_figure_shows_every_bin(taggers):
    made, labels, _ = taggers
    calibration = calibrate(made[2], labels, NAMES, n_bins=8, resamples=5)
    for signal in (None, "Hbb"):
        ax = reliability_curves({"one": calibration, "two": calibration}, signal).axes[0]
        assert [len(c.lines[0].get_xdata()) for c in ax.containers] == [8, 8]


def test_nothing_to_draw_is_an_error():
    for draw, argument in ((rejection_against_loss, {}), (roc_limit, []), (reliability_curves, {})):
        with pytest.raises(InputError, match="nothing to draw"):
            draw(argument)
