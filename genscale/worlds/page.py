"""Figures of fits beside the truth."""

from __future__ import annotations

from matplotlib.figure import Figure

from eval.common.style import BLUE, FAINT, GREY, VERMILION, styled
from genscale.worlds.closure import Closure


@styled
def span_figure(closure: Closure, unit: str) -> Figure:
    """Fitted floors of grids of different spans beside the true one.

    Parameters
    ----------
    closure : Closure
    unit : str
        What the loss is a mean over.

    Returns
    -------
    Figure
    """
    spans = closure.spans[::-1]
    figure = Figure(figsize=(6.4, 1.2 + 0.28 * len(spans)))
    axes = figure.subplots()
    for place, found in enumerate(spans):
        floor = found.params["E"]
        for ends, width, colour in ((floor.ci95, 1.2, FAINT), (floor.ci68, 3.0, BLUE)):
            if ends is not None:
                axes.plot(ends, (place, place), color=colour, lw=width, solid_capstyle="butt")
        axes.plot(floor.value, place, "o", color=BLUE, mfc=BLUE if floor.identified is not False else "white")
    axes.axvline(closure.truth.floor, color=VERMILION)
    axes.axvline(closure.lowest_loss, color=GREY, ls="--", lw=1)
    # Intervals that are not identified may span decades, and would hide all others.
    reach = 3 * max(
        closure.lowest_loss - closure.truth.floor, *(abs(f.bias) for f in spans if f.bias < 1), 1e-3
    )
    axes.set_xlim(closure.truth.floor - reach, closure.truth.floor + reach)
    axes.set_yticks(range(len(spans)), [found.name for found in spans])
    axes.minorticks_off()
    axes.set_xlabel(f"L_inf in nats per {unit}")
    return figure
