"""Figures of tagging: rejection against loss, ROC curves and their limit, reliability.

No figure is registered with pyplot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.common.errors import InputError
from eval.common.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    common_legend,
    plain_logs,
    single_axes,
    styled,
)
from eval.tagging.calibration import Calibration, Reliability
from eval.tagging.law import RejectionLaw
from eval.tagging.prediction import Prediction, RocBand
from eval.tagging.rejection import clopper_pearson
from eval.tagging.score import BACKGROUND, SignalScore

MEASURED, LAW, LIMIT = GREY, BLUE, VERMILION
BANDS = (BLUE, GREEN, ORANGE, PURPLE, SKY)

_LABELS = {
    "Hbb": r"$H \to b\bar{b}$", "Hcc": r"$H \to c\bar{c}$", "Hgg": r"$H \to gg$", "H4q": r"$H \to 4q$",
    "Hqql": r"$H \to \ell\nu qq'$", "Zqq": r"$Z \to q\bar{q}$", "Wqq": r"$W \to qq'$",
    "Tbqq": r"$t \to bqq'$", "Tbl": r"$t \to b\ell\nu$",
}  # fmt: skip


@styled
def rejection_against_loss(
    laws: Mapping[str, RejectionLaw], predictions: Mapping[str, Sequence[Prediction]] | None = None
) -> Figure:
    """Draw the rejection of QCD against the test loss, one panel per class, with R(L) and its 68 % band.

    This is figure 5 of Vigl et al. (arXiv:2602.15781).

    Parameters
    ----------
    laws : mapping of str to RejectionLaw
        Laws by class name.
    predictions : mapping of str to sequence of Prediction, optional
        Predictions by class name, drawn as diamonds with both errors: open if not identified, and left out if an
        interval is unbounded.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There are no laws.

    Notes
    -----
    Error bars are binomial or, where larger, those of the law's weights, which include the error of the threshold. If
    no QCD jet is kept, an arrow starts at the 84 % lower limit.
    """
    if not laws:
        raise InputError("laws: there is nothing to draw")
    columns = min(3, len(laws))
    rows = -(-len(laws) // columns)
    figure = Figure(figsize=(4.0 * columns, 3.3 * rows + 0.4))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, law) in zip(panels, laws.items(), strict=False):
        shown = [] if predictions is None else list(predictions.get(name, []))
        _rejection_panel(ax, law, shown)
        percent = f"{100 * law.efficiency:g}"
        ax.set_title(f"{_LABELS.get(name, name)} at {percent} % efficiency", fontsize=11)
    for ax in panels[len(laws) :]:
        ax.set_visible(False)
    figure.supxlabel("test loss [nats per jet]", fontsize=12)
    figure.supylabel(f"{BACKGROUND} rejection", fontsize=12)
    common_legend(figure, panels, ncols=4, fontsize=10)
    return figure


def _rejection_panel(ax: Axes, law: RejectionLaw, predictions: Sequence[Prediction]) -> None:
    k, n = law.kept, law.n_background
    low, high = _binomial(k, n)
    some = k > 0
    value = n / np.maximum(k, 1)
    low, high = np.minimum(low, value * np.exp(-law.error)), np.maximum(high, value * np.exp(law.error))
    ax.errorbar(
        law.loss[some], value[some], [value[some] - low[some], high[some] - value[some]],
        fmt="o", ms=3.5, color=MEASURED, elinewidth=1, label="taggers",
    )  # fmt: skip
    if not some.all():
        limit = _binomial(k, n)[0][~some]
        ax.errorbar(
            law.loss[~some], limit, 0.5 * limit, lolims=True, fmt="none", color=MEASURED, label="nothing kept"
        )
    ends = [law.loss.min(), law.loss.max()]
    drawn = [p for p in predictions if _drawable(p)]
    line = np.linspace(min([ends[0], *(p.loss.value for p in drawn)]) - 0.01, ends[1] + 0.02, 120)
    ax.plot(line, law.fit.predict(L=line), color=LAW, label="A exp(B L) + C")
    bottom, top = law.fit.predict_interval(L=line)
    ax.fill_between(line, bottom, top, color=LAW, alpha=0.2, linewidth=0)
    for colour, p in zip((LIMIT, *BANDS[1:]), drawn, strict=False):
        x, y = p.loss, p.rejection
        sides = [(e.value - e.ci68[0], e.ci68[1] - e.value) for e in (x, y) if e.ci68 is not None]
        (x_low, x_high), (y_low, y_high) = sides
        ax.errorbar(
            [x.value], [y.value], [[max(y_low, 0)], [max(y_high, 0)]], [[max(x_low, 0)], [max(x_high, 0)]],
            fmt="D", ms=6, color=colour, mfc=colour if y.identified else "white", label=f"predicted, {p.where}",
        )  # fmt: skip
    ax.set_yscale("log")
    # An error bar over decades may leave the panel.
    values = np.append(n / (k + 0.5), [p.rejection.value for p in drawn])
    ax.set_ylim(max(ax.get_ylim()[0], 0.3 * values.min()), min(ax.get_ylim()[1], 20 * values.max()))
    ax.set_xlim(line[0] - 0.15 * np.ptp(line), line[-1] + 0.03 * np.ptp(line))
    plain_logs(ax)


def _drawable(p: Prediction) -> bool:
    ends = (p.rejection.ci68, p.loss.ci68)
    return all(e is not None and np.isfinite(e).all() for e in ends) and p.rejection.value < 1e8


@styled
def roc_limit(
    bands: Sequence[RocBand], measured: Mapping[str, SignalScore] | None = None, title: str = ""
) -> Figure:
    """Draw predicted ROC curves at finite data and in the limit, and measured ones.

    This is figure 6 of Vigl et al. (arXiv:2602.15781).

    Parameters
    ----------
    bands : sequence of RocBand
        Predicted curves with their 68 % bands, the limit last (drawn on top). Curves are dashed at efficiencies for
        which the prediction is not identified.
    measured : mapping of str to SignalScore, optional
        Taggers by legend entry, drawn as points with binomial errors.
    title : str
        The signal class by default.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There are no bands.
    """
    if not bands:
        raise InputError("bands: there is nothing to draw")
    figure, ax = single_axes(6.2, 5.0)
    colours = [*[BANDS[i % len(BANDS)] for i in range(len(bands) - 1)], LIMIT]
    for band, colour in zip(bands, colours, strict=True):
        x, known = band.efficiencies, band.identified
        ax.plot(x, band.rejection, "--", color=colour, linewidth=1)
        ax.plot(
            x, np.where(known, band.rejection, np.nan), "-", color=colour, label=f"predicted, {band.where}"
        )
        ax.fill_between(x, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
    for marker, (label, score) in zip("osv^Dxp*", (measured or {}).items(), strict=False):
        some = score.kept > 0
        value = score.n_background / np.maximum(score.kept, 1)
        low, high = _binomial(score.kept, score.n_background)
        ax.errorbar(
            score.efficiencies[some], value[some], [value[some] - low[some], high[some] - value[some]],
            fmt=marker, ms=4.5, color=MEASURED, elinewidth=1, label=label,
        )  # fmt: skip
    tops = [float(np.max(b.rejection, where=b.identified, initial=10.0)) for b in bands]
    tops += [score.n_background / (score.kept.min() + 0.5) for score in (measured or {}).values()]
    ax.set(
        yscale="log", ylim=(0.8, 5 * max(tops)), xlabel="signal efficiency", ylabel=f"{BACKGROUND} rejection"
    )
    name = bands[0].name
    ax.set_title(title or _LABELS.get(name, name))
    plain_logs(ax)
    ax.legend(fontsize=9)
    return figure


@styled
def reliability_curves(calibrations: Mapping[str, Calibration], signal: str | None = None) -> Figure:
    """Draw observed fraction minus stated probability in bins of equal counts, with 68 % binomial errors.

    Parameters
    ----------
    calibrations : mapping of str to Calibration
        Calibrations by legend entry.
    signal : str, optional
        A class; by default the most probable class of each jet.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There are no calibrations.
    """
    if not calibrations:
        raise InputError("calibrations: there is nothing to draw")
    figure, ax = single_axes(6.2, 4.6)
    colours = (LAW, LIMIT, *BANDS[1:])
    for i, (label, calibration) in enumerate(calibrations.items()):
        r: Reliability = calibration.confidence if signal is None else calibration.classes[signal]
        colour = colours[i % len(colours)]
        difference = r.observed - r.stated
        text = f"{label}: error {100 * r.error:.2f} (floor {100 * r.floor:.2f}), T = {calibration.temperature:.2f}"
        ax.errorbar(
            r.stated, difference, [r.observed - r.low, r.high - r.observed],
            fmt="o-", ms=4, color=colour, elinewidth=1, linewidth=0.8, label=text,
        )  # fmt: skip
    ax.axhline(0, color=MEASURED, linewidth=1)
    event = "of the likeliest class" if signal is None else f"of {_LABELS.get(signal, signal)}"
    ax.set(xlabel=f"stated probability {event}", ylabel="observed share - stated probability")
    figure.legend(loc="outside upper center", frameon=False, fontsize=9)
    return figure


def _binomial(kept: np.ndarray, n: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 68 % Clopper-Pearson interval of the rejection; unbounded above if no jet is kept."""
    low, high = clopper_pearson(kept, n)
    with np.errstate(divide="ignore"):
        return 1 / high, 1 / low
