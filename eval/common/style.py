"""The common style of all figures: a palette, the settings of mplhep's ROOT style, and what figures are built from.

The palette is that of Okabe and Ito (2008), which people with colour vision deficiencies can tell apart. Categories
take its colours in order; ordered quantities, such as model sizes, take shades from dark to light.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY, FAINT = "#4d4d4d", "#bdbdbd"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)

#: mplhep's style is made for whole slides; these sizes suit a column of a page.
_SIZES: dict[str, Any] = {
    "font.size": 11,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.title_fontsize": 10,
    "lines.linewidth": 1.6,
    "xtick.major.size": 6,
    "xtick.minor.size": 3,
    "ytick.major.size": 6,
    "ytick.minor.size": 3,
    "axes.linewidth": 1.0,
    "font.family": "sans-serif",
    "mathtext.fontset": "dejavusans",
    "xaxis.labellocation": "center",
    "yaxis.labellocation": "center",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "savefig.dpi": 150,
}


def styled(draw: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Draw a function's figure in this style, and leave the caller's matplotlib settings alone."""

    @wraps(draw)
    def in_style(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with mpl.rc_context(mplhep.style.ROOT | _SIZES):
            return draw(*args, **kwargs)

    return in_style


def shades(ordered: Iterable[Key]) -> dict[Key, Any]:
    """One shade per distinct value, from dark for the first to light for the last."""
    distinct = list(dict.fromkeys(ordered))
    return dict(zip(distinct, mpl.colormaps["viridis"](np.linspace(0.05, 0.9, len(distinct))), strict=True))


def single_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a new figure of this size in inches with one set of axes, which pyplot does not know of."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def common_legend(figure: Figure, panels: Iterable[Axes], **options: Any) -> None:
    """Draw one legend above the figure for all its panels, each label once; ``options`` as for ``Figure.legend``."""
    handles = {label: h for ax in panels for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    options = {"loc": "outside upper center", "frameon": False, **options}
    figure.legend(list(handles.values()), list(handles), **options)


def plain_logs(ax: Axes) -> None:
    """Label a logarithmic y axis with plain numbers: 1, 2 and 5 of every decade, or 1 alone over many decades."""
    decades = np.log10(ax.get_ylim()[1] / ax.get_ylim()[0])
    ax.yaxis.set_major_locator(LogLocator(subs=(1,) if decades > 3 else (1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
