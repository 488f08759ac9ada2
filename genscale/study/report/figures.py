"""The figures of a study's report, each with a caption that says how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from eval.fidelity.figures import distance_vs_loss, significance_heatmap
from eval.scaling import WindowResult
from eval.scaling.figures import fit_panels, window_figure
from genscale.study.config import StudyConfig
from genscale.study.report.analysis import COMMON_LEVEL, Analysis, TaskLaws, found_windows
from genscale.study.report.findings import UNIT


@dataclass(frozen=True)
class Drawn:
    """A figure (or a PNG that a cell made), its title and caption."""

    image: Figure | Path
    title: str
    caption: str


def study_figures(analysis: Analysis, folder: Path, config: StudyConfig) -> dict[str, Drawn]:
    """All figures that the results allow, in the order of the report."""
    figures: dict[str, Drawn] = {}
    windows = found_windows(analysis.tasks)
    if windows:
        figures["window"] = draw_windows(windows)
    for name, task in analysis.tasks.items():
        panels = {title: law for title, law in task.laws.items() if not isinstance(law, str)}
        if panels:
            figures[f"laws-{name}"] = Drawn(fit_panels(panels), f"Laws of {name}", _law_caption(task, name))
    figures["curves"] = Drawn(
        learning_curves(analysis),
        "Held-out loss against jets seen",
        "Every training run, evaluated on the same held-out jets at log-spaced steps, with statistical errors. "
        "The learning rate is constant after warm-up, so that each point on the way is a run of its own D. Points "
        f"left of the grey line ({config.fit.min_jets:,} jets) are not fitted.",
    )
    if analysis.fidelity:
        runs = list(analysis.fidelity)
        metrics = [analysis.records[run].final.metrics for run in runs]
        names = [run.split("/")[-1] for run in runs]
        figures["loss-fidelity"] = Drawn(
            distance_vs_loss(
                [m["loss"] for m in metrics], [analysis.fidelity[r] for r in runs],
                [analysis.records[r].size for r in runs],
                [m["loss_error"] for m in metrics],
            ),
            "Loss against fidelity",
            "Sliced Wasserstein distance of five observables that the model never sees, against its held-out loss. "
            "The bands are the floors: reference against reference at the same number of jets, and jets that only "
            "went through the tokenizer. A distance on a floor is not resolved.",
        )  # fmt: skip
        figures["significance"] = Drawn(
            significance_heatmap(dict(zip(names, analysis.fidelity.values(), strict=True))),
            "What is still wrong with the generated jets",
            "How many spreads of the floor each distance lies above it, by observable and model. Grey: not resolved "
            "with this number of jets.",
        )
        best = min(runs, key=lambda run: analysis.records[run].final.metrics["loss"]).split("/")[-1]
        figures["observables"] = Drawn(
            folder / "fidelity" / best / "observables.png",
            f"Observables of the jets of {best}",
            "Generated, tokenizer-only and reference jets, with the ratio to the reference below each panel. What the "
            "tokenizer-only jets already miss, no generator on these tokens can get right.",
        )
    if (folder / "quality" / "quality.png").exists():
        figures["tokenizer"] = Drawn(
            folder / "quality" / "quality.png",
            "The tokenizer",
            "Original and decoded jets, and the resolution of each feature after one pass through the codebook.",
        )
    return figures


def draw_windows(windows: Mapping[str, WindowResult]) -> Drawn:
    """Learnable windows of named tasks, one or several, on one axis of compute."""
    return Drawn(
        window_figure(windows, COMMON_LEVEL),
        "The learnable window" + (f": {' beside '.join(windows)}" if len(windows) > 1 else ""),
        "Left: the share of each task's learnable window, from a uniform guess (0) to the fitted floor L_inf (1), "
        "that a compute-optimal run with C FLOPs occupies; solid within the range of the runs, dashed beyond. "
        "Right: reference level and floor, in nats per token (generation) and per jet (tagging). A task whose curve "
        "bends early is soon exhausted; a wide band means that the runs do not pin the floor (n. i.: not identified).",
    )


def learning_curves(analysis: Analysis) -> Figure:
    """Held-out loss against jets seen, one panel per task; seeds of one size share a colour."""
    import matplotlib.pyplot as plt

    n = len(analysis.tasks)
    figure, axes = plt.subplots(1, n, figsize=(4.7 * n, 4.0), layout="constrained", squeeze=False)
    for ax, laws in zip(axes[0], analysis.tasks.values(), strict=True):
        runs = [r for _, r in analysis.runs(laws.task)]
        sizes = {r.size: r.parameters["total"] for r in runs}
        colours = dict(zip(sizes, plt.get_cmap("viridis")(np.linspace(0.05, 0.9, len(sizes))), strict=True))
        named: set[str] = set()
        for run in runs:
            ax.errorbar(
                [e.jets_seen for e in run.evaluations], [e.metrics["loss"] for e in run.evaluations],
                [e.metrics["loss_error"] for e in run.evaluations], fmt="o-", ms=3, lw=1, color=colours[run.size],
                label=None if run.size in named else f"{run.size}: {sizes[run.size]:,}",
            )  # fmt: skip
            named.add(run.size)
        ax.axvline(laws.points.variable("D").min() * 0.97, color="grey", lw=0.8)
        unit = UNIT[laws.task]
        ax.set(xscale="log", xlabel="jets seen D", ylabel=f"held-out loss [nats per {unit}]", title=laws.task)
        ax.legend(fontsize=7, title="size: parameters", title_fontsize=7)
    return figure


def _law_caption(task: TaskLaws, name: str) -> str:
    unit = "token" if name == "generation" else "jet"
    return (
        f"Fitted laws of {name}, in nats per {unit}: loss over N and D together, over N at the largest D, and over D "
        "at the largest N that saw it. Bands are 68 % bootstrap intervals; constants marked n. i. are not identified "
        "by these runs and must not be quoted."
    )
