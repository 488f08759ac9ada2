"""The figure and the page of a comparison of tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.common.style import PALETTE, styled
from genscale.comparison.result import Choice, Comparison, Measured
from genscale.pages import Picture, Section, Table, write_page

#: Colours and markers of kinds of tokenizers.
STYLES = tuple(zip((*PALETTE, "#000000"), "os^DvP*X", strict=True))


@styled
def draw(comparison: Comparison) -> Figure:
    """Draw rate against distortion: the joint distance of jets, and the resolutions of particles and masses.

    The rate is the empirical entropy; each point is a tokenizer, and points of one kind are joined.
    """
    figure = Figure(figsize=(11, 8))
    axes = figure.subplots(2, 2)
    kinds = list(dict.fromkeys(row.kind for row in comparison.rows))
    for kind, (colour, marker) in zip(kinds, STYLES * (len(kinds) // len(STYLES) + 1), strict=False):
        rows = sorted((row for row in comparison.rows if row.kind == kind), key=_rate_of)
        rate = [_rate_of(row) for row in rows]
        panels = (
            [row.swd for row in rows],
            [_mean_square(row) for row in rows],
            [100 * row.quality["particle"]["pt_relative"]["half_width_68"] for row in rows],
            [100 * row.observables["jet_mass"].half_width_68 for row in rows],
        )
        for ax, values in zip(axes.flat, panels, strict=True):
            ax.plot(rate, values, color=colour, marker=marker, linewidth=1, markersize=5, label=kind)
        axes[0, 0].errorbar(rate, panels[0], yerr=[row.swd_error for row in rows], fmt="none", ecolor=colour)
    labels = (
        "sliced Wasserstein distance, same jets",
        r"RMS of angular residual $\sqrt{\Delta\eta^2 + \Delta\phi^2}$ [rad]",
        r"particle $p_\mathrm{T}$, half 68 % width [%]",
        "jet mass, half 68 % width [%]",
    )
    for ax, label in zip(axes.flat, labels, strict=True):
        _dress(ax, label)
    floor = float(np.mean([row.halves["floor"] for row in comparison.rows]))
    axes[0, 0].axhline(floor, color="grey", linestyle=":", linewidth=1)
    axes[0, 0].annotate(
        f"noise between {comparison.n_jets // 2:,} and {comparison.n_jets // 2:,} jets", (0.02, floor),
        xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color="grey",
    )  # fmt: skip
    axes[0, 0].legend(fontsize=8)
    return figure


def _dress(ax: Axes, label: str) -> None:
    ax.set_yscale("log")
    ax.set_xlabel("entropy of the codes [bits per particle]")
    ax.set_ylabel(label)
    ax.grid(alpha=0.3, which="both")


def _rate_of(row: Measured) -> float:
    return float(row.quality["bits_per_particle"])


def _mean_square(row: Measured) -> float:
    particle = row.quality["particle"]
    return float(np.hypot(particle["eta_rel"]["rms"], particle["phi_rel"]["rms"]))


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write ``comparison.html``, ``.png``, ``.csv`` and ``.json`` into a folder: recommendations first.

    Parameters
    ----------
    comparison : Comparison
        What was measured.
    out : Path
        Folder of the files.

    Returns
    -------
    Path
        The page.
    """
    spread = (
        "No configuration was trained with several seeds, so their spread is not in the errors."
        if comparison.seed_spread is None
        else f"Seeds differ by {comparison.seed_spread:.1%} of SWD (one standard deviation), which is in the errors."
    )
    quality = comparison.rows[0].quality
    data = {"comparison.csv": comparison.table(), "comparison.json": comparison}
    return write_page(
        out / "comparison.html",
        "Tokenizers compared",
        f"{len(comparison.rows)} tokenizers on the same {comparison.n_jets:,} held-out jets with "
        f"{quality['n_particles'] / quality['n_jets']:.1f} particles on average",
        [_choices(comparison, spread), _measured(comparison, data)],
        figures=out,
    )


def _choices(comparison: Comparison, spread: str) -> Section:
    budgets = (
        ("Bits per particle", "at most {:.0f} bits (log2 K)", comparison.by_rate),
        ("Training time", "at most {:,.0f} CPU seconds", comparison.by_training_time),
    )
    return Section(
        "Which one to use",
        found=recommendations(comparison),
        cautions=[spread, "A larger vocabulary lowers the floor, but it also makes the generator larger and its task "
                          "harder to learn."],
        tables=[
            Table.of(
                title,
                "Of the tokenizers within two errors of the best, the one that is cheapest to train.",
                choices,
                [
                    ("budget", partial(_budget, words)),
                    ("use", lambda choice: choice.name),
                    ("SWD", lambda choice: f"{choice.swd:.4f} ± {choice.swd_error:.4f}"),
                    ("not resolved from it", lambda choice: ", ".join(choice.tied)),
                ],
            )
            for title, words, choices in budgets
            if choices
        ],
        text=[
            "SWD is the sliced Wasserstein distance (p = 1, in standard deviations of the originals) of pT, mass, "
            "tau21, tau32 and multiplicity between jets after and before the tokenizer: what a perfect generator on "
            "these tokens would be left with."
        ]
        + [f"No recommendation by {title.lower()}: not known here." for title, _, choices in budgets if not choices],
    )  # fmt: skip


def _budget(words: str, choice: Choice) -> str:
    return words.format(choice.budget)


def recommendations(comparison: Comparison) -> list[str]:
    """Return, in sentences, the tokenizer to use within each budget."""
    lines = []
    for choice in comparison.by_rate:
        tied = f"; not resolved from it: {', '.join(choice.tied)}" if choice.tied else ""
        lines.append(
            f"Up to {choice.budget:.0f} bits per particle: {choice.name}, "
            f"SWD {choice.swd:.4f} ± {choice.swd_error:.4f}{tied}."
        )
    for choice in comparison.by_training_time:
        lines.append(f"Up to {choice.budget:,.0f} s of training: {choice.name}, SWD {choice.swd:.4f}.")
    return lines


def _measured(comparison: Comparison, data: Mapping[str, Any]) -> Section:
    return Section(
        "Rate and distortion",
        figures=[
            Picture(
                "comparison",
                "Rate against distortion",
                "What jets, particles and masses lose, against the empirical entropy of the codes. Each point is a "
                "tokenizer; points of one kind are joined.",
                draw(comparison),
            )
        ],
        tables=[
            Table.of(
                "Rate and codebook",
                "Entropies know the frequencies of codes but no correlations; they are low by about K / (2 n ln 2) "
                "bits.",
                comparison.rows,
                _RATE,
            ),
            Table.of(
                "Distortion and floor",
                "SWD of halves: one half of the jets, decoded, against the other half, with the floor that two halves "
                "of original jets give, and by how many spreads of that floor it lies above (below 3: not resolved). "
                "Widths are half the central 68 % of the relative residual. Codes of conditional tokenizers have a "
                "meaning only together with the rest of the jet; those of unconditional ones and bins stand alone.",
                comparison.rows,
                _DISTORTION,
            ),
        ],
        data=data,
    )


_RATE: Sequence[tuple[str, Callable[[Measured], str]]] = (
    ("tokenizer", lambda row: row.name),
    ("kind", lambda row: row.kind),
    ("K", lambda row: f"{row.codebook_size:,}"),
    ("codes used", lambda row: f"{row.quality['codes_used']:,}"),
    ("perplexity", lambda row: f"{row.quality['perplexity']:,.0f}"),
    ("log2 K per particle", lambda row: f"{row.quality['nominal_bits_per_particle']:.2f}"),
    ("entropy per particle", lambda row: f"{row.quality['bits_per_particle']:.2f}"),
    ("log2 K per jet", lambda row: f"{row.quality['nominal_bits_per_jet']:.0f}"),
    ("entropy per jet", lambda row: f"{row.quality['bits_per_jet']:.0f}"),
    ("parameters", lambda row: f"{row.parameters:,}"),
    ("jets seen", lambda row: "" if row.jets_seen is None else f"{row.jets_seen:,}"),
    ("CPU s", lambda row: "" if row.cpu_seconds is None else f"{row.cpu_seconds:.0f}"),
)

_DISTORTION: Sequence[tuple[str, Callable[[Measured], str]]] = (
    ("tokenizer", lambda row: row.name),
    ("SWD, same jets", lambda row: f"{row.swd:.4f} ± {row.swd_error:.4f}"),
    ("SWD, halves", lambda row: "{value:.4f} ± {standard_error:.4f}".format(**row.halves)),
    ("floor", lambda row: f"{row.halves['floor']:.4f}"),
    ("spreads above", lambda row: f"{row.halves['significance']:.1f}"),
    (
        "particle pT width [%]",
        lambda row: f"{100 * row.quality['particle']['pt_relative']['half_width_68']:.1f}",
    ),
    ("eta RMS", lambda row: f"{row.quality['particle']['eta_rel']['rms']:.4f}"),
    ("phi RMS", lambda row: f"{row.quality['particle']['phi_rel']['rms']:.4f}"),
    ("jet pT bias [%]", lambda row: f"{100 * row.observables['jet_pt'].bias:+.2f}"),
    ("mass bias [%]", lambda row: f"{100 * row.observables['jet_mass'].bias:+.2f}"),
    ("mass width [%]", lambda row: f"{100 * row.observables['jet_mass'].half_width_68:.1f}"),
    ("tau21 bias", lambda row: f"{row.observables['tau21'].bias:+.4f}"),
    ("tau32 bias", lambda row: f"{row.observables['tau32'].bias:+.4f}"),
)
