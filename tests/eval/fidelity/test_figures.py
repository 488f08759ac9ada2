"""Figures carry the data and labels that they are given."""

import matplotlib as mpl
import numpy as np
import pytest

from eval.common.errors import InputError
from eval.fidelity.figures import distance_vs_loss, ratio_plots, significance_bars, significance_heatmap
from eval.fidelity.score import score

NAMES = ("jet_mass", "multiplicity")


def toy(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return {"jet_mass": rng.gamma(3, 25, n) + 9 * shift, "multiplicity": rng.poisson(40 + 3 * shift, n) * 1.0}


@pytest.fixture(scope="module")
def results():
    reference, tokenizer = toy(1500, 0), toy(600, 9, 0.2)
    return [score(toy(600, k, s), reference, tokenizer, observables=NAMES, n_repeats=10, n_directions=30)
            for k, s in ((1, 2.0), (2, 1.0), (3, 0.0))]  # fmt: skip


def test_ratio_plots_are_normalised_and_labelled():
    figure = ratio_plots(toy(800, 1), toy(2000, 2), toy(500, 3), NAMES)
    figure.canvas.draw()
    top, bottom = figure.axes[:2]
    assert bottom.get_xlabel() == "jet mass [GeV]"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "reference",
        "tokenizer only",
        "generated",
    ]
    shares = [patch.get_data().values.sum() for patch in top.patches]
    assert all(0.97 < share <= 1.0 for share in shares)


def test_multiplicity_has_whole_bins():
    figure = ratio_plots(toy(800, 1), toy(2000, 2), names=["multiplicity"])
    edges = figure.axes[0].patches[0].get_data().edges
    assert np.all(np.mod(edges, 1) == 0.5)


def test_distance_vs_loss_shows_every_model_and_floor(results):
    figure = distance_vs_loss([3.0, 2.0, 1.0], results, ["A", "B", "A"], [0.1, 0.1, 0.1])
    figure.canvas.draw()
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["A", "B"]
    drawn = [container.lines[0].get_xdata().tolist() for container in axes.containers]
    assert drawn == [[3.0, 1.0], [2.0]]
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert set(labels) == {"reference against reference", "resolution limit (3 spreads)", "tokenizer only"}
    with pytest.raises(InputError, match="2 losses, 3 results and 3 labels"):
        distance_vs_loss([1.0, 2.0], results, ["A", "B", "C"])


def test_heatmap_greys_what_is_not_resolved(results):
    figure = significance_heatmap(dict(zip("ABC", results, strict=True)))
    figure.canvas.draw()
    mask = np.ma.getmaskarray(figure.axes[0].images[0].get_array())
    assert not mask[0, 0]
    assert mask[:, 2].all()


def test_a_floor_without_spread_can_be_drawn():
    """Its significance is infinite, which no axis can show."""
    reference = toy(300, 0) | {"multiplicity": np.zeros(300)}
    result = score(toy(300, 1), reference, observables=NAMES, n_repeats=5)
    assert np.isinf(result.observables["multiplicity"].significance)
    for figure in (significance_heatmap({"A": result}), significance_bars(result)):
        figure.canvas.draw()


def test_style_does_not_leak(results):
    before = mpl.rcParams["font.size"]
    significance_heatmap({"A": results[0]})
    assert mpl.rcParams["font.size"] == before
