"""What was run: the jets, the trainings by size, their learning curves, and what is unusual about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from eval.common.style import shades, styled
from genscale.pages import Picture, Section, Table
from genscale.study.cells import REJECTION
from genscale.study.config import StudyConfig
from genscale.study.results.sizes import Size
from genscale.study.results.study import TASKS, UNIT, Study


def section(study: Study) -> Section:
    """Jets, trainings and learning curves of a study."""
    sizes, config = study.sizes, study.config
    text = _jets(config, study.splits) if study.splits else [f"Tokens from {config.tokenizer.tokens}."]
    if "generation" in sizes:
        text.append(_generators(sizes["generation"], config))
    if "tagging" in sizes:
        text.append(_taggers(sizes["tagging"], len(study.jets("train").classes), config))
    if not sizes:
        return Section("Runs", text=text)
    text.append(
        f"Laws are fitted to points with at least {config.fit.min_jets:,} jets seen; intervals come from "
        f"{config.fit.bootstrap} bootstrap resamples."
    )
    runs = runs_table(study)
    return Section(
        "Runs",
        found=[line for task, of_task in sizes.items() for line in compare_sizes(task, of_task)],
        cautions=cautions(study),
        figures=[_curves(sizes, config.fit.min_jets)],
        tables=[*(_sizes_table(task, of_task) for task, of_task in sizes.items()), runs],
        data={study.points_file.name: None},
        text=text,
        summary=runs.text(),
    )


def with_most_jets(sizes: Sequence[Size]) -> list[Size]:
    """Return the sizes that saw the largest number of jets, which alone can be compared with each other."""
    most = max(size.jets_seen for size in sizes)
    return [size for size in sizes if size.jets_seen == most]


def compare_sizes(task: str, sizes: Sequence[Size]) -> list[str]:
    """Say how the held-out loss changes from the smallest to the largest model at equal numbers of jets."""
    compared = with_most_jets(sizes)
    small, large = compared[0], compared[-1]
    unit = UNIT[large.kind]
    seeds = dict.fromkeys(str(len(size.runs)) for size in (small, large))
    spreads = dict.fromkeys(f"{size.spread:.4f}" for size in (small, large) if size.spread is not None)
    error = "one seed per size; the errors are those of the held-out jets"
    if spreads:
        error = (
            f"means over {' and '.join(seeds)} seeds, with a standard deviation of {' and '.join(spreads)}"
        )
    if small is large:
        return [f"{task.capitalize()}: {large.parameters:,} parameters reach a held-out loss of {large.text} nats "
                f"per {unit} after {large.jets_seen:,} jets ({error})."]  # fmt: skip
    return [
        f"{task.capitalize()}: from {small.parameters:,} to {large.parameters:,} parameters, each trained on "
        f"{large.jets_seen:,} jets, the held-out loss changes from {small.text} to {large.text} nats per {unit} "
        f"({error})."
    ]


def cautions(study: Study) -> list[str]:
    """Say what is unusual about the runs of a study."""
    lines = []
    for run, record in (item for kind in TASKS.values() for item in study.runs(kind).items()):
        losses = [e.metrics["loss"] for e in record.evaluations]
        if losses[-1] > min(losses) + 3 * record.final.metrics["loss_error"]:
            lines.append(f"{run}: the loss rises at the end of training; the learning rate may be too high.")
        if record.jets_seen > record.jets_unique:
            lines.append(
                f"{run}: saw {record.jets_unique:,} jets {record.jets_seen / record.jets_unique:.2g} times, although "
                "the laws of its task describe a single pass."
            )
    for sizes in study.sizes.values():
        lines += [
            f"{b.kind}: the larger model {b.name} ends at a higher loss than {a.name}: {b.text} and {a.text}."
            for a, b in pairwise(with_most_jets(sizes))
            if b.parameters > a.parameters and b.loss - a.loss > 3 * np.hypot(a.error, b.error)
        ]
    single = [task for task, sizes in study.sizes.items() if all(len(size.runs) == 1 for size in sizes)]
    lines.append(
        "Points on one learning curve share their noise"
        + (
            f"; with one seed per size, the intervals for {' and '.join(single)} do not contain the variation between "
            "seeds."
            if single
            else "; the variation between seeds is included where a size has several."
        )
    )
    return lines


# -- tables and figure ----------------------------------------------------------------------------------------


def _sizes_table(task: str, sizes: Sequence[Size]) -> Table:
    return Table.of(
        f"Sizes, {task}",
        "Held-out loss at the end of training, mean over seeds. Its error combines that of the held-out jets, which "
        "all seeds share, with that of the mean over seeds; the spread is the standard deviation over seeds.",
        sizes,
        [
            ("size", lambda s: s.name),
            ("N", lambda s: f"{s.parameters:,}"),
            ("D (jets)", lambda s: f"{s.jets_seen:,}"),
            ("C (FLOPs)", lambda s: f"{s.flops:.2e}"),
            ("seeds", lambda s: str(len(s.runs))),
            (f"held-out loss (nats per {UNIT[sizes[0].kind]})", lambda s: s.text),
            ("spread over seeds", lambda s: "" if s.spread is None else f"{s.spread:.4f}"),
        ],
    )


def runs_table(study: Study) -> Table:
    """One row per training run."""
    return Table.of(
        "Training runs",
        "N is the number of parameters, and C is counted from the architecture; the loss is that of held-out jets, in "
        "nats per token (generators) or per jet (taggers), with its statistical error.",
        [item for kind in TASKS.values() for item in study.runs(kind).items()],
        [
            ("run", lambda item: item[0]),
            ("N", lambda item: f"{item[1].parameters['total']:,}"),
            ("N of blocks", lambda item: f"{item[1].parameters['blocks']:,}"),
            ("D (jets)", lambda item: f"{item[1].jets_seen:,}"),
            ("C (FLOPs)", lambda item: f"{item[1].flops:.2e}"),
            ("held-out loss", lambda item: "{loss:.4f} ± {loss_error:.4f}".format(**item[1].final.metrics)),
            ("jets/s", lambda item: f"{item[1].jets_seen / max(item[1].wall_s, 1e-9):,.0f}"),
            ("seconds", lambda item: f"{item[1].wall_s:.0f}"),
        ],
    )


def _curves(sizes: Mapping[str, Sequence[Size]], min_jets: int) -> Picture:
    return Picture(
        "curves",
        "Learning curves",
        "Held-out loss against jets seen, one line per size: the mean over seeds. The band is the standard deviation "
        "over seeds where there are several, and the statistical error of the held-out loss otherwise. The learning "
        "rate is constant after warm-up, or falls to zero before each point in a branch of its own, so that each point "
        f"stands for a run on that many jets. Points left of the grey line ({min_jets:,} jets) are not fitted.",
        learning_curves(sizes, min_jets),
    )


@styled
def learning_curves(sizes: Mapping[str, Sequence[Size]], min_jets: int = 0) -> Figure:
    """Held-out loss against jets seen, one panel per task and one line per size."""
    figure = Figure(figsize=(5.2 * len(sizes), 4.3))
    axes = figure.subplots(1, len(sizes), squeeze=False)[0]
    for ax, (task, of_task) in zip(axes, sizes.items(), strict=True):
        colours = shades(size.name for size in of_task)
        for size in of_task:
            jets, loss, band = size.curve
            colour = colours[size.name]
            ax.plot(jets, loss, "o-", ms=3, lw=1.2, color=colour, label=f"{size.parameters:,}")
            ax.fill_between(jets, loss - band, loss + band, color=colour, alpha=0.2, lw=0)
        if min_jets > ax.get_xlim()[0]:
            ax.axvline(min_jets, color="grey", lw=0.8)
        unit = UNIT[of_task[0].kind]
        ax.set(xscale="log", xlabel="jets seen D", ylabel=f"held-out loss [nats per {unit}]", title=task)
        ax.legend(title="parameters N", fontsize=8, title_fontsize=8, ncols=2 if len(of_task) > 6 else 1)
    return figure


# -- words ----------------------------------------------------------------------------------------------------


def _jets(config: StudyConfig, read: Sequence[str]) -> list[str]:
    jets = config.jets
    if jets.stores:
        return [f"Jets from {jets.stores}."]
    if jets.world:
        changed = "".join(f", {key}={value}" for key, value in jets.parameters.items())
        return [f"Jets of the world {jets.world}{changed}, whose limits are known."]
    names = {"train": "training", "validation": "validation", "test": "test"}
    counts = ", ".join(f"{getattr(jets, split):,} {name}" for split, name in names.items() if split in read)
    lines = [
        f"{counts} jets of {len(jets.classes)} classes, simulated with Pythia 8 at 13 TeV and a parametrised CMS-like "
        "detector; anti-kT jets with R = 0.8, 500 < pT < 1000 GeV and |eta| < 2."
    ]
    if REJECTION in read:
        more = " and ".join(f"{n:,} jets of {name}" for name, n in jets.rejection_of.items())
        lines.append(
            f"Taggers are judged on a separate set of test jets with {more}, because rejections need many of them."
        )
    if not jets.mpi:
        lines.append(
            "Multiparton interactions are switched off, which makes the simulation five times faster: multiplicities "
            "and masses are lower than in data or JetClass. Set jets.mpi=true to compare with either."
        )
    return lines


def _generators(sizes: Sequence[Size], config: StudyConfig) -> str:
    given, cooldown = config.tokenizer.folder, config.generator.training.cooldown
    falls = (
        f", and falls to zero over the last {100 * cooldown:g} % of the jets before each loss"
        if cooldown
        else ""
    )
    coder = f"The tokenizer is a VQ-VAE with {config.tokenizer.model.codebook_size} codes"
    if config.jets.world or given:
        coder = f"Tokenizer {'of the world' if config.jets.world else f'from {given}'}"
    drawn = (
        f" {config.samples.jets:,} jets are drawn from each generator and scored against as many test jets."
    )
    return (
        f"{sum(len(size.runs) for size in sizes)} generators of {sizes[0].parameters:,} to {sizes[-1].parameters:,} "
        "parameters, each with one pass over the data, held-out losses at log-spaced steps, and a learning rate that "
        f"is constant after warm-up{falls}. "
        f"{coder}.{'' if config.jets.world else drawn}"
    )


def _taggers(sizes: Sequence[Size], n_classes: int, config: StudyConfig) -> str:
    return (
        f"{sum(len(size.runs) for size in sizes)} taggers of {sizes[0].parameters:,} to {sizes[-1].parameters:,} "
        f"parameters: one pass over the data, {n_classes} classes, features {config.tagger.features} of at most "
        f"{config.tagger.max_particles} particles."
    )
