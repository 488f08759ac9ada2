"""Figures of a tokenizer's quality."""

from __future__ import annotations

from typing import Final

import awkward as ak
import matplotlib.figure
import mplhep
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tokenizer.codec import Tokenizer
from tokenizer.preprocessing import FIELDS
from tokenizer.quality import jet_observables

LABELS: Final = {
    "pt": r"particle $p_\mathrm{T}$ [GeV]",
    "eta_rel": r"particle $\eta^\mathrm{rel}$",
    "phi_rel": r"particle $\phi^\mathrm{rel}$",
    "pt_gev": r"jet $p_\mathrm{T}$ [GeV]",
    "mass_gev": "jet mass [GeV]",
}


def plot_quality(tokenizer: Tokenizer, jets: ak.Array, *, device: str = "cpu") -> matplotlib.figure.Figure:
    """Draw distributions of original and decoded jets with their ratios, and the resolution of the particles' pT.

    Parameters
    ----------
    tokenizer : Tokenizer
    jets : ak.Array
        Lists of records `pt` (GeV), `eta_rel`, `phi_rel` (rad).
    device : str
        Device on which the network runs.

    Returns
    -------
    matplotlib.figure.Figure
        Five distributions with ratio panels, and a panel of the relative pT resolution against pT.
    """
    kept = tokenizer.preprocessing.select(jets)
    decoded = tokenizer.decode(tokenizer.encode(kept, device=device), device=device, sort=False)
    values = {name: (_flat(kept[name]), _flat(decoded[name])) for name in FIELDS}
    before, after = jet_observables(jets), jet_observables(decoded)
    values |= {name: (before[name], after[name]) for name in ("pt_gev", "mass_gev")}

    figure = matplotlib.figure.Figure(figsize=(12, 7.5), layout="constrained")
    grid = figure.add_gridspec(4, 3, height_ratios=(3, 1, 3, 1))
    for index, (name, (original, reconstructed)) in enumerate(values.items()):
        row, column = 2 * (index // 3), index % 3
        main = figure.add_subplot(grid[row, column])
        ratio = figure.add_subplot(grid[row + 1, column], sharex=main)
        _compare(main, ratio, original, reconstructed, log_x=name == "pt")
        main.set_yscale("log" if name in ("pt", "eta_rel", "phi_rel") else "linear")
        ratio.set_xlabel(LABELS[name])
        if index == 0:
            main.legend(loc="lower left")
    _resolution(figure.add_subplot(grid[2:, 2]), *values["pt"])
    return figure


def _compare(
    main: Axes, ratio: Axes, original: NDArray[np.float64], decoded: NDArray[np.float64], *, log_x: bool
) -> None:
    """Draw two distributions over the range of the original one, and their ratio with statistical errors."""
    low, high = np.quantile(original, [0.001, 0.999])
    edges = np.geomspace(low, high, 41) if log_x else np.linspace(low, high, 41)
    counts = [np.histogram(sample, edges)[0].astype(float) for sample in (original, decoded)]
    for count, label, style in zip(counts, ("original", "decoded"), ("-", "--"), strict=True):
        mplhep.histplot(count, edges, ax=main, label=label, linestyle=style)
    if log_x:
        main.set_xscale("log")
    main.tick_params(labelbottom=False)
    main.set_ylabel("entries")
    filled = counts[0] > 0
    centres = np.sqrt(edges[1:] * edges[:-1]) if log_x else (edges[1:] + edges[:-1]) / 2
    quotient, error = counts[1][filled] / counts[0][filled], np.sqrt(counts[1][filled]) / counts[0][filled]
    ratio.errorbar(centres[filled], quotient, yerr=error, fmt="k.", markersize=4)
    ratio.axhline(1.0, color="grey", linewidth=0.8)
    ratio.set_ylim(0.5, 1.5)
    ratio.set_ylabel("decoded / orig.", fontsize="small")


def _resolution(axes: Axes, original: NDArray[np.float64], decoded: NDArray[np.float64]) -> None:
    """Draw median and central 68 % of the relative pT residual in bins of equal population of pT."""
    edges = np.unique(np.quantile(original, np.linspace(0, 1, 21)))
    residual = decoded / original - 1
    which = np.clip(np.digitize(original, edges) - 1, 0, max(len(edges) - 2, 0))
    bins = [residual[which == b] for b in np.unique(which)]
    centres = [float(np.median(original[which == b])) for b in np.unique(which)]
    low, middle, high = np.array([np.quantile(b, [0.16, 0.5, 0.84]) for b in bins]).T
    axes.fill_between(centres, low, high, alpha=0.3, label="central 68 %")
    axes.plot(centres, middle, label="median")
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(LABELS["pt"])
    axes.set_ylabel(r"decoded / original $p_\mathrm{T}$ $-$ 1")
    axes.legend()


def _flat(values: ak.Array) -> NDArray[np.float64]:
    return ak.to_numpy(ak.flatten(values)).astype(float)
