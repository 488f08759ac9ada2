"""Figures of repeated data and of input configurations."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from eval.common.results import Estimate
from eval.common.style import BLUE, PALETTE, VERMILION, plain_logs, single_axes, styled
from eval.scaling.fitting.result import FitResult
from eval.scaling.repetition.fit import RepeatedData
from eval.scaling.repetition.inputs import InputComparison
from eval.scaling.repetition.threshold import Threshold

FloatArray = NDArray[np.float64]

UNDERFIT, OVERFIT = BLUE, VERMILION


@styled
def phase_diagram(threshold: Threshold, N: ArrayLike, U: ArrayLike) -> Figure:
    """Draw runs on repeated data that overfit or do not, the brackets of the threshold, and N ~ U^lambda with its band.

    Parameters
    ----------
    threshold : Threshold
        The fitted threshold.
    N : array-like of float, shape (n,)
        Parameters of the runs, in the order in which they were given to the fit.
    U : array-like of float, shape (n,)
        Unique data of the runs.

    Returns
    -------
    Figure
    """
    n, u = np.asarray(N, dtype=np.float64), np.asarray(U, dtype=np.float64)
    figure, ax = single_axes(5.6, 4.4)
    over = threshold.overfit
    ax.plot(u[~over], n[~over], "o", ms=7, mfc="none", color=UNDERFIT, label="does not overfit")
    ax.plot(u[over], n[over], "x", ms=7, mew=2, color=OVERFIT, label="overfits")
    for b in threshold.brackets:
        if b.N_low > 0 and np.isfinite(b.N_high):
            ax.plot([b.U, b.U], [b.N_low, b.N_high], "-", lw=5, color="lightgrey", zorder=0)
    line = np.geomspace(u.min() / 2, u.max() * 2, 60)
    middle, low, high = threshold.size(line)
    doubtful = threshold.exponent.identified is False
    label = f"N ~ U$^\\lambda$, $\\lambda$ = {_text(threshold.exponent)}" + (", n. i." if doubtful else "")
    ax.plot(line, middle, "--" if doubtful else "-", color="black", lw=1.4, label=label)
    ax.fill_between(line, low, high, color="black", alpha=0.12, lw=0)
    ax.set(xscale="log", yscale="log", xlabel="U (unique jets)", ylabel="N (parameters)")
    ax.set(xlim=(line[0], line[-1]), ylim=(n.min() / 2, n.max() * 2))
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


@styled
def early_stopped_losses(result: RepeatedData) -> Figure:
    """Early-stopped loss against unique data, the single-epoch law at infinite N, and the gain omega(U)."""
    figure = Figure(figsize=(9.6, 4.2))
    left, right = figure.subplots(1, 2)
    n, u, loss = result.points.variable("N"), result.points.variable("U"), result.points.L
    left.plot(
        u[~result.above], loss[~result.above], "o", ms=4, mfc="none", color="grey", label="not in the law"
    )
    sizes = np.unique(n[result.above])
    for i, size in enumerate(sizes):
        here = result.above & (n == size)
        shade = 0.25 + 0.75 * (i + 1) / len(sizes)
        left.plot(
            u[here], loss[here], "s", ms=4.5, color=OVERFIT, alpha=shade,
            label="early-stopped, darker for larger N" if i == len(sizes) - 1 else None,
        )  # fmt: skip
    line = np.geomspace(u.min() / 1.5, u.max() * 3, 120)
    _law(left, result.fit, line, OVERFIT, f"repeated: beta = {_text(result.fit.params['beta'])}", "U")
    if result.single is not None:
        single = result.single
        label = f"single epoch, N infinite: beta = {_text(single.params['beta'])}"
        _law(left, single, line, UNDERFIT, label, "D")
    left.set(xscale="log", xlabel="unique jets", ylabel="L (nats per jet)")
    top = float(loss.max())
    left.set_ylim(min(float(loss.min()), result.fit.params["E"].value) - 0.05 * top, 1.15 * top)
    left.legend(fontsize=7)
    for offset, (name, table, colour) in enumerate(
        (
            ("equal loss of the two laws", result.gain, OVERFIT),
            ("eq. 5: floors taken as equal", result.gain_equal_floors, "grey"),
        )
    ):
        _row(right, table, colour, name, 1 + 0.06 * offset)
    right.axhline(1, color="grey", lw=0.8, ls=":")
    right.set(
        xscale="log", yscale="log", xlabel="U (unique jets)", ylabel="omega: data that repetition saves"
    )
    plain_logs(right)
    if result.gain:
        right.legend(fontsize=7)
    return figure


@styled
def repetition_cost(result: RepeatedData) -> Figure:
    """Compute of repeated training over the compute-optimal single epoch of the same loss, at each U."""
    figure, ax = single_axes(5.2, 3.8)
    _row(ax, result.cost, OVERFIT, "cheapest run above the threshold", 1.0)
    ax.axhline(1, color="grey", lw=0.8, ls=":")
    ax.axhline(10, color="black", lw=0.8, ls="--", label="about 10 (arXiv:2602.15781)")
    ax.set(xscale="log", yscale="log", xlabel="U (unique jets)", ylabel="compute / compute-optimal")
    plain_logs(ax)
    ax.legend(fontsize=8)
    return figure


@styled
def input_laws(result: InputComparison) -> Figure:
    """Figure 4 of Vigl et al.: losses against data for each input configuration, floors and exponents.

    Open markers on the right are not identified.
    """
    figure = Figure(figsize=(11.0, 4.2))
    left, middle, right = figure.subplots(1, 3, width_ratios=(2.2, 1, 1))
    for i, (name, law) in enumerate(result.fits.items()):
        colour = PALETTE[i % len(PALETTE)]
        points, variable = result.points[name], law.law.variables[0]
        x = points.variable(variable)
        left.plot(x, points.L, "o", ms=4, color=colour)
        line = np.geomspace(x.min() / 1.5, x.max() * 10, 120)
        _law(left, law, line, colour, name, variable)
        left.axhline(law.params["E"].value, color=colour, lw=0.7, ls=":")
        _bar(middle, law.params["E"], i, colour)
        _bar(middle, result.floors_at_common_slope[name], i + 0.25, colour, marker="s")
        _bar(right, law.params["beta"], i, colour)
    slope = result.slopes.mean
    right.axvline(slope.value, color="black", lw=0.8)
    if slope.ci68 is not None:
        right.axvspan(*slope.ci68, color="black", alpha=0.12, lw=0)
    left.set(xscale="log", ylabel="L (nats per jet)", xlabel="unique jets")
    left.legend(fontsize=8)
    names = list(result.fits)
    for ax, label in ((middle, "L_inf (nats)\nsquare: at the common beta"), (right, "beta")):
        ax.set_yticks(range(len(names)), names if ax is middle else [""] * len(names))
        ax.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
    right.set_title(f"one beta: {_p(result.slopes.p_value)}", fontsize=9)
    middle.set_title(f"one floor: {_p(result.shared_floors.p_value)}", fontsize=9)
    return figure


def _text(estimate: Estimate) -> str:
    ends = "" if estimate.ci68 is None else f" [{estimate.ci68[0]:.2g}, {estimate.ci68[1]:.2g}]"
    return f"{estimate.value:.2g}{ends}"


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value > 1e-6 else "p < 1e-6"


def _law(ax: Axes, result: FitResult, line: FloatArray, colour: str, label: str, variable: str) -> None:
    """Fitted law with its 68 % band along one variable; another one is taken to infinity."""
    everywhere = np.full_like(line, np.inf)
    given = {name: line if name == variable else everywhere for name in result.law.variables}
    with np.errstate(invalid="ignore"):  # derivatives at infinite N are not used
        ax.plot(line, result.predict(**given), "-", lw=1.4, color=colour, label=label)
        if result.samples is not None:
            low, high = result.predict_interval(0.6827, **given)
            ax.fill_between(line, low, high, color=colour, alpha=0.18, lw=0)


def _row(ax: Axes, table: Mapping[float, Estimate], colour: str, label: str, shift: float) -> None:
    """Estimates by U with 68 % bars; open where not identified, left out where there is no finite number."""
    for u, estimate in table.items():
        if not (np.isfinite(estimate.value) and estimate.value > 0):
            continue
        low, high = estimate.ci68 or (estimate.value, estimate.value)
        ends = [
            [estimate.value - low],
            [high - estimate.value if np.isfinite(high) else 1e3 * estimate.value],
        ]
        ax.errorbar(
            [u * shift], [estimate.value], yerr=np.maximum(ends, 0), fmt="o", ms=5, color=colour, capsize=2,
            mfc="white" if estimate.identified is False else colour, label=label,
        )  # fmt: skip
        label = "_nolegend_"


def _bar(ax: Axes, estimate: Estimate, y: float, colour: str, marker: str = "o") -> None:
    low, high = estimate.ci68 or (estimate.value, estimate.value)
    ax.errorbar(
        [estimate.value], [y], xerr=[[max(estimate.value - low, 0)], [max(high - estimate.value, 0)]],
        fmt=marker, ms=5, color=colour, capsize=2, mfc="white" if estimate.identified is False else colour,
    )  # fmt: skip
