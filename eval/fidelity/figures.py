"""Figures of fidelity: ratio plots, distance against loss, and significances over models.

Every function returns a matplotlib Figure that is not registered with pyplot, so reports may draw hundreds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError
from eval.common.style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    VERMILION,
    common_legend,
    plain_logs,
    shades,
    single_axes,
    styled,
)
from eval.fidelity.floors import RESOLVED_AT
from eval.fidelity.score import FidelityResult
from eval.jets.constituents import Constituents
from eval.jets.observables import DEFAULT_FIVE, REGISTRY

FloatArray = NDArray[np.float64]

REFERENCE, GENERATED, TOKENIZER, FLOOR = GREY, BLUE, VERMILION, GREEN

_LABELS = {
    "particle_pt": r"particle $p_\mathrm{T}$",
    "particle_eta_rel": r"particle $\eta_\mathrm{rel}$",
    "particle_phi_rel": r"particle $\phi_\mathrm{rel}$",
    "fpd": "FPD",
    "kpd": "KPD",
    "trees_on_observables": "AUC of trees",
    "tagger_on_constituents": "AUC of tagger",
}

#: Half of the values in this share of the axis or less make it logarithmic.
_LONG_TAIL = 7

#: More spreads than this above a floor, or infinitely many over one without spread, are drawn as this.
_MOST_SPREADS = 1e5


@styled
def ratio_plots(
    generated: Mapping[str, ArrayLike],
    reference: Mapping[str, ArrayLike],
    tokenizer: Mapping[str, ArrayLike] | None = None,
    names: Iterable[str] = DEFAULT_FIVE,
    n_bins: int = 30,
    generated_label: str = "generated",
) -> Figure:
    """Distributions of observables with their ratio to the reference below, three to a row.

    Parameters
    ----------
    generated : mapping of str to array-like of float
        Observables of generated jets, shape (J,) each.
    reference : mapping of str to array-like of float
        Observables of reference jets.
    tokenizer : mapping of str to array-like of float, optional
        Observables of tokenizer-only jets.
    names : iterable of str
        Observables to draw.
    n_bins : int
        Bins between the 0.5 % and 99.5 % quantiles of the reference; whole numbers get whole bins.
    generated_label : str
        Legend entry of the generated sample.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        An observable is missing.
    """
    names = tuple(names)
    for what, sample in (("generated", generated), ("reference", reference), ("tokenizer", tokenizer)):
        if sample is not None and (missing := [name for name in names if name not in sample]):
            raise InputError(
                f"{what}: observable {missing[0]} is missing (found {', '.join(sample) or 'none'})"
            )
    samples = _samples(generated_label, reference, tokenizer, generated)
    panels = [
        _Panel(
            REGISTRY[name].axis_label if name in REGISTRY else name,
            [(label, np.asarray(sample[name]), None, colour) for label, sample, colour in samples],
        )
        for name in names
    ]
    return _ratio_figure(panels, n_bins)


@styled
def particle_plots(
    generated: Constituents,
    reference: Constituents,
    tokenizer: Constituents | None = None,
    n_bins: int = 30,
    generated_label: str = "generated",
) -> Figure:
    """Spectra of single particles with their ratio to the reference; error bars are those of whole jets.

    Parameters
    ----------
    generated : Constituents
    reference : Constituents
    tokenizer : Constituents, optional
        Tokenizer-only jets.
    n_bins : int
        Bins between the 0.5 % and 99.5 % quantiles of the reference.
    generated_label : str
        Legend entry of the generated sample.

    Returns
    -------
    Figure
    """
    samples = _samples(generated_label, reference, tokenizer, generated)
    panels = [
        _Panel(
            f"particle {label}",
            [(name, getattr(jets, key), jets.jet_index, colour) for name, jets, colour in samples],
            "particles",
            is_steep=key == "pt",
        )
        for label, key in (
            (r"$p_\mathrm{T}$ [GeV]", "pt"),
            (r"$\eta_\mathrm{rel}$", "eta"),
            (r"$\phi_\mathrm{rel}$", "phi"),
        )
    ]
    return _ratio_figure(panels, n_bins)


def _samples(
    generated_label: str, reference: Any, tokenizer: Any, generated: Any
) -> list[tuple[str, Any, str]]:
    """Labels, samples and colours, the denominator first."""
    own = [] if tokenizer is None else [("tokenizer only", tokenizer, TOKENIZER)]
    return [("reference", reference, REFERENCE), *own, (generated_label, generated, GENERATED)]


@dataclass(frozen=True)
class _Panel:
    """One distribution; of every sample the label, values, jet of each value (None: one per jet), and colour."""

    label: str
    samples: Sequence[tuple[str, FloatArray, NDArray[np.int64] | None, str]]
    counted: str = "jets"
    is_steep: bool = False


def _ratio_figure(panels: Sequence[_Panel], n_bins: int) -> Figure:
    n_columns = min(3, len(panels))
    n_rows = -(-len(panels) // n_columns)
    width, height = 4.3 * n_columns, 4.1 * n_rows + 0.4
    # Margins in inches: constrained layout would take two thirds of the time of forty panels.
    figure = Figure(figsize=(width, height), layout="none")  # type: ignore[arg-type]  # the stubs do not know this choice
    grid = figure.add_gridspec(
        n_rows, n_columns, left=0.75 / width, right=1 - 0.15 / width, bottom=0.55 / height,
        top=1 - 0.45 / height, wspace=0.26, hspace=0.2,
    )  # fmt: skip
    tops = []
    for k, panel in enumerate(panels):
        pair = grid[divmod(k, n_columns)].subgridspec(2, 1, height_ratios=[3, 1.1], hspace=0.06)
        top = figure.add_subplot(pair[0])
        bottom = figure.add_subplot(pair[1], sharex=top)
        _one_ratio(top, bottom, panel, n_bins)
        tops.append(top)
        figure.align_ylabels([top, bottom])
    common_legend(figure, tops, loc="upper center", ncols=3)  # this layout knows no outside
    return figure


def _one_ratio(top: Axes, bottom: Axes, panel: _Panel, n_bins: int) -> None:
    """Draw one observable; the first sample is the denominator."""
    edges = _edges(panel.samples[0][1], n_bins)
    widths = np.diff(edges)
    centres = edges[:-1] + widths / 2
    if not np.allclose(widths, widths[0]):
        top.set_xscale("log")
        centres = np.sqrt(edges[1:] * edges[:-1])
    reference_counts, reference_share, reference_error = _shares(*panel.samples[0][1:3], edges)
    relative = np.divide(
        reference_error, reference_share, out=np.ones_like(reference_share), where=reference_share > 0
    )
    for position, (label, values, jets, colour) in enumerate(panel.samples):
        counts, share, error = _shares(values, jets, edges)
        if position == 0:
            top.stairs(share, edges, fill=True, color=colour, alpha=0.25, label=label)
            bottom.stairs(1 + relative, edges, baseline=1 - relative, fill=True, color=colour, alpha=0.25)
            continue
        top.stairs(share, edges, color=colour, label=label)
        # Error bars of several samples stand side by side instead of on top of one another.
        x = centres + (position - 1.5) * 0.18 * widths
        style: dict[str, Any] = {"fmt": "none", "elinewidth": 1.0, "color": colour}
        top.errorbar(centres, share, error, **style)
        shown = (reference_counts >= 4) & (counts >= 4)  # with fewer jets a ratio is only noise
        ratio = np.divide(share, reference_share, out=np.ones_like(share), where=shown)
        spread = np.divide(error, reference_share, out=np.zeros_like(error), where=shown)
        bottom.errorbar(x[shown], ratio[shown], spread[shown], **(style | {"fmt": "o", "markersize": 2.4}))
        # An arrow at the edge of the frame marks a ratio outside it: the worst bins must not vanish.
        for beyond, edge, marker in ((ratio > 1.5, 1.46, "^"), (ratio < 0.5, 0.54, "v")):
            here = shown & beyond
            bottom.plot(x[here], np.full(here.sum(), edge), marker, color=colour, markersize=4)
    if panel.is_steep:
        top.set_yscale("log")
    else:
        top.set_ylim(0, 1.25 * top.get_ylim()[1])
    top.set(ylabel=f"share of {panel.counted} per bin", xlim=(edges[0], edges[-1]))
    top.tick_params(labelbottom=False)
    bottom.axhline(1, color=REFERENCE, linewidth=1)
    bottom.set(ylim=(0.5, 1.5), ylabel="ratio", xlabel=panel.label)


def _shares(
    values: FloatArray, jets: NDArray[np.int64] | None, edges: FloatArray
) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Counts in bins, shares of all values, and their errors: of counts, or of jets with several values each."""
    counts = np.histogram(values, edges)[0]
    if jets is None:
        return counts, counts / values.size, np.sqrt(counts) / values.size
    n_bins, n_jets = len(edges) - 1, int(jets.max(initial=0)) + 1
    place = np.searchsorted(edges, values, side="right") - 1
    inside = (place >= 0) & (place < n_bins)
    table = np.bincount(jets[inside] * n_bins + place[inside], minlength=n_jets * n_bins)
    spread = table.reshape(n_jets, n_bins).std(axis=0) * np.sqrt(n_jets)
    return counts, counts / values.size, spread / values.size


def _edges(reference: FloatArray, n_bins: int) -> FloatArray:
    """Even bins over the bulk of a sample: of whole numbers whole ones, of a long tail logarithmic ones."""
    low, middle, high = np.quantile(reference, [0.005, 0.5, 0.995])
    if np.all(reference == np.round(reference)):
        step = max(1, int(np.ceil((high - low + 1) / n_bins)))
        return np.arange(low - 0.5, high + step, step)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    if low > 0 and high - low > _LONG_TAIL * (middle - low):
        return np.geomspace(low, high, n_bins + 1)
    return np.linspace(low, high, n_bins + 1)


@styled
def distance_vs_loss(
    losses: ArrayLike,
    results: Sequence[FidelityResult],
    labels: Sequence[str],
    loss_errors: ArrayLike | None = None,
) -> Figure:
    """Sliced Wasserstein distance of every model against its validation loss, with the floors as bands.

    Parameters
    ----------
    losses : array-like of float, shape (K,)
        Validation losses in nats per token.
    results : sequence of FidelityResult
        K scores, made with the same reference, size and seed. Bars are the errors that the generated samples alone
        make, because the reference is common to all.
    labels : sequence of str
        K names of models; those of one name (seeds of one size) share a colour.
    loss_errors : array-like of float, shape (K,), optional
        Errors of the losses.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There are no models, or not one of each for every model.
    """
    if not len(results) == len(labels) == np.size(losses) or not labels:
        raise InputError(
            f"{np.size(losses)} losses, {len(results)} results and {len(labels)} labels: every model needs one of each"
        )
    figure, axes = single_axes(6.2, 4.6)
    loss = np.asarray(losses, dtype=np.float64)
    values = np.array([result.joint.value for result in results])
    errors = np.array([result.joint.distance.error_generated for result in results])
    floor = results[0].joint.floor
    axes.axhspan(
        floor.mean - floor.spread, floor.mean + floor.spread, color=FLOOR, alpha=0.3, linewidth=0,
        label="reference against reference",
    )  # fmt: skip
    axes.axhline(
        floor.mean + RESOLVED_AT * floor.spread,
        color=FLOOR,
        linestyle=":",
        label="resolution limit (3 spreads)",
    )
    own = results[0].joint.tokenizer
    if own is not None:
        axes.axhspan(
            own.value - own.standard_error, own.value + own.standard_error, color=TOKENIZER, alpha=0.25,
            linewidth=0, label="tokenizer only",
        )  # fmt: skip
    colours = shades(labels)
    bands, models = axes.get_legend_handles_labels()[0], []
    for name, colour in colours.items():
        chosen = np.array([label == name for label in labels])
        models.append(
            axes.errorbar(
                loss[chosen], values[chosen], errors[chosen],
                None if loss_errors is None else np.asarray(loss_errors)[chosen],
                fmt="o", color=colour, markersize=6, elinewidth=1.2, capsize=2, label=name, zorder=3,
            )
        )  # fmt: skip
    axes.legend(
        handles=models, title="generated", loc="lower right", fontsize=9, ncols=2 if len(colours) > 4 else 1
    )
    axes.set_yscale("log")
    axes.margins(x=0.14, y=0.12)
    plain_logs(axes)
    axes.set(
        xlabel="validation loss [nats per token]",
        ylabel=f"sliced Wasserstein distance\n(order {results[0].joint.distance.p}, standard deviations)",
    )
    figure.legend(handles=bands, loc="outside upper center", ncols=2, frameon=False)
    return figure


@styled
def significance_heatmap(results: Mapping[str, FidelityResult]) -> Figure:
    """Significance of every distance over its floor, observables down and models across.

    Cells that are not resolved are grey: their number is compatible with no difference at all.

    Parameters
    ----------
    results : mapping of str to FidelityResult
        Scores by the name of the model.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        There are no scores.
    """
    if not results:
        raise InputError("results is empty: at least one scored model is needed")
    names = list(dict.fromkeys(name for result in results.values() for name in result.scores))
    figure, axes = single_axes(1.6 + 0.95 * len(results) + 1.2, 0.9 + 0.46 * len(names))
    table = np.full((len(names), len(results)), np.nan)
    for column, result in enumerate(results.values()):
        for row, name in enumerate(names):
            if name in result.scores:
                table[row, column] = min(result.scores[name].significance, _MOST_SPREADS)
    resolved = np.array(
        [[name in r.scores and r.scores[name].resolved for r in results.values()] for name in names]
    )
    top = max(30.0, float(np.max(table, where=resolved, initial=0.0)))
    colours = mpl.colormaps["YlGnBu"].with_extremes(bad="#e6e6e6")
    image = axes.imshow(
        np.ma.masked_where(~resolved, table), cmap=colours, norm=LogNorm(RESOLVED_AT, top), aspect="auto"
    )
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            dark = resolved[row, column] and np.log(value / RESOLVED_AT) > 0.5 * np.log(top / RESOLVED_AT)
            text = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
            axes.text(
                column, row, text, ha="center", va="center", fontsize=10, color="white" if dark else "black"
            )
    axes.set_xticks(range(len(results)), list(results))
    axes.set_yticks(range(len(names)), [REGISTRY[n].label if n in REGISTRY else n for n in names])
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    for edge in axes.spines.values():
        edge.set_visible(False)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("spreads above the floor\n(grey: not resolved)", fontsize=10)
    return figure


@styled
def significance_bars(result: FidelityResult) -> Figure:
    """Significance of everything that was measured on one sample, on a symmetric log axis; grey: not resolved.

    The twenty energy flow polynomials, which are strongly correlated, are listed in the table only.

    Parameters
    ----------
    result : FidelityResult
        Score of one sample.

    Returns
    -------
    Figure
    """
    rows = [row for row in result.rows() if not row.name.startswith("efp_")]
    labels = [
        REGISTRY[row.name].label if row.name in REGISTRY else _LABELS.get(row.name, row.name) for row in rows
    ]
    values = np.clip([row.significance for row in rows], -_MOST_SPREADS, _MOST_SPREADS)
    colours = [GENERATED if row.resolved else FAINT for row in rows]
    figure, axes = single_axes(7.0, 0.9 + 0.24 * len(rows))
    axes.barh(range(len(rows)), values, color=colours, height=0.7)
    axes.axvline(
        RESOLVED_AT, color=FLOOR, linestyle=":", label=f"resolution limit ({RESOLVED_AT:.0f} spreads)"
    )
    axes.set_xscale("symlog", linthresh=RESOLVED_AT, linscale=0.7)
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", which="both", length=0)
    axes.yaxis.minorticks_off()
    axes.set_xlabel("spreads above the floor (grey: not resolved)")
    figure.legend(loc="outside upper center", frameon=False)
    return figure
