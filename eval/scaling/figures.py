"""Figures of scaling laws; each is one function of a result object."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.common.style import BLUE, FAINT, PALETTE, VERMILION, shades, single_axes, styled
from eval.scaling.approaches.frontier import FrontierFit
from eval.scaling.fitting.result import FitResult
from eval.scaling.points import Points
from eval.scaling.window import WindowResult

FloatArray = NDArray[np.float64]

UNITS = {"N": "N (parameters)", "D": "D (data)", "C": "C (FLOPs)", "U": "U (unique data)", "L": "L (nats)"}


def _note(result: FitResult) -> str:
    lines = [result.law.formula]
    for name in result.law.names:
        estimate = result.params[name]
        error = "" if estimate.ci68 is None else f" [{estimate.ci68[0]:.3g}, {estimate.ci68[1]:.3g}]"
        lines.append(
            f"{name} = {estimate.value:.3g}{error}{' n. i.' if estimate.identified is False else ''}"
        )
    return "\n".join(lines)


@styled
def fit_panel(
    points: Points, result: FitResult, variable: str | None = None, ax: Axes | None = None
) -> Figure:
    """Losses with the fitted law and its 68 % band along one variable.

    For a law of N and D each value of the other variable has its own colour and curve. Constants that
    are not identified carry "n. i.".
    """
    variable = variable or result.law.variables[0]
    if variable not in result.law.variables:
        raise InputError(f"variable: {variable} is not one of {', '.join(result.law.variables)}")
    figure, ax = single_axes(5.2, 4.0) if ax is None else (ax.figure, ax)
    x, y = points.variable(variable), points.L
    others = [name for name in result.law.variables if name != variable]
    line = np.geomspace(x.min(), x.max() * (10 if not others else 1), 200)
    if not others:
        ax.plot(x, y, "o", ms=4, color="black")
        _curve(ax, result, {variable: line}, line, BLUE)
    elif len(others) == 1:
        other = points.variable(others[0])
        for value, colour in shades(np.unique(other).tolist()).items():
            here = other == value
            ax.plot(x[here], y[here], "o", ms=3.5, color=colour, label=f"{others[0]} = {value:.3g}")
            _curve(ax, result, {variable: line, others[0]: np.full_like(line, value)}, line, colour)
        if len(np.unique(other)) <= 10:
            ax.legend(fontsize=8, loc="upper right")
    else:
        ax.plot(x, y, "o", ms=4, color="black")
        ax.plot(x, result.predict(**{n: points.variable(n) for n in result.law.variables}), "_", color=BLUE)
    ax.set(xscale="log", xlabel=UNITS[variable], ylabel=UNITS["L"])
    if x.max() > 10 * x.min():
        ax.xaxis.set_minor_formatter(NullFormatter())  # labels of minor ticks would run into each other
    ax.text(0, -0.2, _note(result), transform=ax.transAxes, fontsize=9, va="top")  # below: no point is hidden
    return figure  # type: ignore[return-value]  # a subfigure serves as well


def _curve(ax: Axes, result: FitResult, x: dict[str, Any], line: FloatArray, colour: Any) -> None:
    ax.plot(line, result.predict(**x), "-", lw=1, color=colour)
    if result.samples is not None:
        low, high = result.predict_interval(**x)
        ax.fill_between(line, low, high, color=colour, alpha=0.2, lw=0)


@styled
def fit_panels(fits: Mapping[str, tuple[Points, FitResult]]) -> Figure:
    """``fit_panel`` of several fits in a row; keys are titles."""
    figure = Figure(figsize=(4.2 * len(fits), 4.8))
    axes = figure.subplots(1, len(fits), squeeze=False)
    for ax, (title, (points, result)) in zip(axes[0], fits.items(), strict=True):
        fit_panel(points, result, ax=ax)
        ax.set_title(title)
    return figure


@styled
def isoflop_slices(result: FrontierFit) -> Figure:
    """Slices of equal compute with parabolas and minima, and the line through the minima (approach 2)."""
    figure = Figure(figsize=(9.4, 4.0))
    left, right = figure.subplots(1, 2)
    colours = shades(sorted(o.C for o in result.optima))
    for optimum in result.optima:
        colour = colours[optimum.C]
        x, y = np.array(optimum.x), np.array(optimum.y)
        if not x.size:
            continue
        faint = 0.3 if optimum.reason else 1.0
        left.plot(np.exp(x), y, "o", ms=3.5, color=colour, alpha=faint, label=f"C = {optimum.C:.2g}")
        line = np.linspace(x.min(), x.max(), 100)
        if not optimum.reason:
            left.plot(np.exp(line), np.polyval(optimum.curve, line - x.mean()), "-", lw=1, color=colour)
            left.plot(optimum.N, optimum.L, "x", color=colour)
    c = np.array([o.C for o in result.used])
    n = np.array([o.N for o in result.used])
    error = np.array([o.error_N for o in result.used])
    right.errorbar(c, n, yerr=[n - n * np.exp(-error), n * np.exp(error) - n], fmt="o", color="black", ms=4)
    line = np.geomspace(c.min(), c.max(), 50)
    slope = result.params["a"]
    right.plot(
        line,
        result.params["k_N"].value * line**slope.value,
        color=VERMILION,
        lw=1,
        label=f"N* = k_N C^a, a = {slope}",
    )
    left.set(xscale="log", xlabel=UNITS["N"], ylabel=UNITS["L"])
    right.set(xscale="log", yscale="log", xlabel=UNITS["C"], ylabel="compute-optimal N")
    left.legend(fontsize=6)
    right.legend(fontsize=7)
    return figure


@styled
def residuals(points: Points, result: FitResult) -> Figure:
    """Logarithmic residuals against every variable there is; a trend means the law is wrong."""
    names = [v for v in ("N", "D", "U") if getattr(points, v) is not None]
    if "C" in result.law.variables or points.C is not None or {"N", "D"} <= set(names):
        names.append("C")
    prediction = result.predict(**{name: points.variable(name) for name in result.law.variables})
    ratio = np.log(points.L / prediction)
    figure = Figure(figsize=(3.6 * len(names), 3.2))
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        ax.axhline(0, color="grey", lw=0.8)
        ax.plot(points.variable(name), ratio, "o", ms=3.5, color="black", alpha=0.7)
        ax.set(xscale="log", xlabel=UNITS[name])
    axes[0, 0].set_ylabel("ln(measured / fitted)")
    return figure


@styled
def corner(result: FitResult) -> Figure:
    """Bootstrap distributions of all constants, singly and in pairs; scales in logarithm."""
    if result.samples is None:
        raise InputError("corner: this fit has no bootstrap; fit with bootstrap > 0")
    moving = [i for i in range(result.law.size) if np.ptp(result.samples[:, i]) > 0]
    k = len(moving)
    figure = Figure(figsize=(1.9 * k, 1.9 * k))
    axes = figure.subplots(k, k, squeeze=False)
    columns, best, labels = [], [], []
    for i in moving:
        parameter = result.law.parameters[i]
        convert = np.log10 if parameter.log else np.asarray
        columns.append(convert(result.samples[:, i]))
        best.append(float(convert(result.values[i])))
        labels.append(f"log10 {parameter.name}" if parameter.log else parameter.name)
    for row in range(k):
        for column in range(k):
            ax = axes[row, column]
            ax.tick_params(labelsize=6)
            if column > row:
                ax.set_visible(False)
            elif column == row:
                ax.hist(columns[row], bins=30, color=BLUE, alpha=0.7)
                ax.axvline(best[row], color=VERMILION, lw=1)
                ax.set_yticks([])
            else:
                ax.plot(columns[column], columns[row], ".", ms=1.5, color=BLUE, alpha=0.5)
                ax.plot(best[column], best[row], "+", color=VERMILION, ms=8)
            if row == k - 1:
                ax.set_xlabel(labels[column], fontsize=8)
            if column == 0 and row > 0:
                ax.set_ylabel(labels[row], fontsize=8)
    return figure


@styled
def window_figure(tasks: Mapping[str, WindowResult]) -> Figure:
    """Draw the occupancy of the learnable window against compute, and its size in nats per jet, for all tasks.

    Occupancy is zero for the reference model at which the window starts (a bigram table, the class shares) and one at
    the fitted floor. Lines are solid where runs exist and dashed beyond; the band is the bootstrap's 68 %.

    Parameters
    ----------
    tasks : mapping of str to WindowResult
        Windows by the name of the task.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There is no task, or a fit is of one variable other than C and therefore has no compute axis.
    """
    if not tasks:
        raise InputError('window_figure: give at least one task, as {"generation": window(...)}')
    figure = Figure(figsize=(9.4, 4.0))
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1))
    ranges = {task: _compute_range(result) for task, result in tasks.items()}
    low = min(r[0] for r in ranges.values()) / 10
    high = max(r[1] for r in ranges.values()) * 1e4
    flops = np.geomspace(low, high, 300)
    for i, (task, result) in enumerate(tasks.items()):
        value, bottom, top = result.occupancy(result.start, "C", flops)
        trained = (flops >= ranges[task][0]) & (flops <= ranges[task][1])
        left.plot(flops, value, "--", lw=1, color=PALETTE[i % len(PALETTE)])
        left.plot(
            flops[trained],
            value[trained],
            "-",
            lw=2.2,
            color=PALETTE[i % len(PALETTE)],
            label=f"{task}, from the {result.start}",
        )
        if np.isfinite(bottom).all():
            left.fill_between(flops, bottom, top, color=PALETTE[i % len(PALETTE)], alpha=0.2, lw=0)
        size = result.main.window_per_jet
        learned = result.tokens_per_jet * (result.main.reference - result.lowest_loss)
        right.bar(i, size.value, color=FAINT, width=0.6)
        right.bar(i, learned, color=PALETTE[i % len(PALETTE)], width=0.6)
        if size.ci68 is not None:
            right.errorbar(i, size.value, yerr=_bars(size.value, size.ci68), color="black", capsize=4)
        known = "" if size.identified is not False else " (n. i.)"
        top_of_bar = max(size.value, learned)
        right.text(i, top_of_bar, f" {size.value:.3g}{known}\n", ha="center", va="bottom", fontsize=9)
    for mark in (0.9, 0.95, 0.99):
        left.axhline(mark, color="grey", lw=0.6, ls=":")
    left.set(xscale="log", ylim=(0, 1.03), xlabel=UNITS["C"], ylabel="occupancy of the window")
    left.legend(fontsize=8, loc="lower right")
    right.set_xticks(range(len(tasks)), list(tasks))
    right.set_ylabel("nats per jet\n(grey: window, colour: learned)", fontsize=10)
    right.margins(y=0.15)
    return figure


def _bars(value: float, ends: tuple[float, float]) -> list[list[float]]:
    # An interval without an end has no bar: matplotlib draws nothing for a length that is not a number.
    lengths = [[max(value - ends[0], 0.0)], [max(ends[1] - value, 0.0)]]
    return [[x if np.isfinite(x) else float("nan") for x in side] for side in lengths]


def _compute_range(result: WindowResult) -> tuple[float, float]:
    if "C" not in _terms_of(result):
        raise InputError(f"window_figure: a fit in {', '.join(result.fit.law.variables)} has no compute axis")
    return result.fit.data_window["C"]


def _terms_of(result: WindowResult) -> set[str]:
    return {s.variable for level in result.levels.values() for s in level.saturation}
