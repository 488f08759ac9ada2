"""The figure and the page of a comparison of tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes

from genscale.comparison.result import Choice, Comparison, Measured

#: Okabe and Ito's colours, which people with colour vision deficiencies can tell apart, and markers.
STYLES: Final = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"),
    ("#000000", "X"), ("#999999", "*"),
)  # fmt: skip


def draw(comparison: Comparison) -> matplotlib.figure.Figure:
    """Rate against distortion: the joint distance of jets, and what particles and masses lose.

    The rate is the empirical entropy; each point is a tokenizer, and points of one kind are joined.
    """
    figure = matplotlib.figure.Figure(figsize=(11, 8), layout="constrained")
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


def page(comparison: Comparison) -> str:
    """Markdown: recommendations first, then the numbers, then how to read them."""
    first = comparison.rows[0]
    multiplicity = first.quality["n_particles"] / first.quality["n_jets"]
    spread = (
        "no configuration was trained with several seeds, so their spread is not in the errors"
        if comparison.seed_spread is None
        else f"seeds differ by {comparison.seed_spread:.1%} of SWD (one standard deviation), which is in the errors"
    )
    return "\n".join(
        [
            "# Tokenizers compared",
            "",
            f"{len(comparison.rows)} tokenizers on the same {comparison.n_jets:,} held-out jets with "
            f"{multiplicity:.1f} particles on average; {spread}.",
            "",
            "![Rate and distortion](comparison.png)",
            "",
            "## Which one to use",
            "",
            "SWD is the sliced Wasserstein distance (p = 1, in standard deviations of the originals) of pT, mass, "
            "tau21, tau32 and multiplicity between jets after and before the tokenizer: what a perfect generator on "
            "these tokens would be left with. Of those within two errors of the best, the cheapest to train is named.",
            "",
            *_choices("bits per particle (log2 K)", comparison.by_rate, "at most {:.0f}"),
            "",
            *_choices("CPU seconds of training", comparison.by_training_time, "at most {:,.0f}"),
            "",
            "A lower floor is not all: a larger vocabulary makes the generator larger and its task longer to learn.",
            "",
            "## Rate and codebook",
            "",
            *_table(
                ("tokenizer", "kind", "K", "codes used", "perplexity", "bits/particle log2 K", "entropy",
                 "bits/jet log2 K", "entropy", "parameters", "jets seen", "CPU s"),
                [_rate(row) for row in comparison.rows],
            ),
            "",
            "Entropies know the frequencies of codes but no correlations, and are low by about K / (2 n ln 2) bits.",
            "",
            "## Distortion and floor",
            "",
            *_table(
                ("tokenizer", "SWD same jets", "SWD halves", "floor", "spreads above", "particle pT [%]",
                 "eta RMS", "phi RMS", "jet pT bias [%]", "mass bias [%]", "mass [%]", "tau21 bias",
                 "tau32 bias"),
                [_distortion(row) for row in comparison.rows],
            ),
            "",
            "- *SWD halves*: one half of the jets, decoded, against the other half, with the floor that two halves of "
            "original jets give, and by how many spreads of that floor it lies above. Below 3 it is not resolved.",
            "- *particle pT* and *mass* without bias: half the central 68 % of the relative residual.",
            "- Codes of conditional tokenizers mean something together with the rest of the jet only; those of "
            "unconditional ones and bins stand alone.",
            "",
        ]
    )  # fmt: skip


def _choices(budget: str, choices: Sequence[Choice], words: str) -> list[str]:
    if not choices:
        return [f"No recommendation by {budget}: the training cost of these tokenizers is not known."]
    return _table(
        (budget, "use", "SWD", "not resolved from it"),
        [
            (
                words.format(choice.budget),
                f"**{choice.name}**",
                f"{choice.swd:.4f} +- {choice.swd_error:.4f}",
                ", ".join(choice.tied) or "-",
            )
            for choice in choices
        ],
    )


def _rate(row: Measured) -> tuple[str, ...]:
    q = row.quality
    return (
        row.name, row.kind, f"{row.codebook_size:,}", f"{q['codes_used']:,}", f"{q['perplexity']:,.0f}",
        f"{q['nominal_bits_per_particle']:.2f}", f"{q['bits_per_particle']:.2f}",
        f"{q['nominal_bits_per_jet']:.0f}", f"{q['bits_per_jet']:.0f}", f"{row.parameters:,}",
        "-" if row.jets_seen is None else f"{row.jets_seen:,}",
        "-" if row.cpu_seconds is None else f"{row.cpu_seconds:.0f}",
    )  # fmt: skip


def _distortion(row: Measured) -> tuple[str, ...]:
    particle, halves, seen = row.quality["particle"], row.halves, row.observables
    return (
        row.name, f"{row.swd:.4f} +- {row.swd_error:.4f}",
        f"{halves['value']:.4f} +- {halves['standard_error']:.4f}", f"{halves['floor']:.4f}",
        f"{halves['significance']:.1f}", f"{100 * particle['pt_relative']['half_width_68']:.1f}",
        f"{particle['eta_rel']['rms']:.4f}", f"{particle['phi_rel']['rms']:.4f}",
        f"{100 * seen['jet_pt'].bias:+.2f}", f"{100 * seen['jet_mass'].bias:+.2f}",
        f"{100 * seen['jet_mass'].half_width_68:.1f}", f"{seen['tau21'].bias:+.4f}", f"{seen['tau32'].bias:+.4f}",
    )  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(cells) + " |"
        for cells in (head, ["---"] * len(head), *rows)
    ]  # fmt: skip
