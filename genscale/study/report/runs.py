"""What was run: the jets, the trainings by size, their learning curves, and what is odd about them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from eval.common.style import shades, styled
from genscale.pages import Picture, Section, Table
from genscale.records import RunRecord
from genscale.study.cells import splits_read
from genscale.study.config import StudyConfig
from genscale.study.report.study import TASKS, UNIT, Size, Study


def section(study: Study) -> Section:
    """Jets, trainings and learning curves of a study."""
    sizes = {task: study.sizes(kind) for task, kind in TASKS.items() if study.runs(kind)}
    runs = runs_table(study)
    return Section(
        "Runs",
        found=[line for task, of_task in sizes.items() for line in compare_sizes(task, of_task)],
        cautions=cautions(study),
        figures=[_curves(study, sizes)] if sizes else [],
        tables=[*(_sizes_table(task, of_task) for task, of_task in sizes.items()), runs] if sizes else [],
        data={study.points_file.name: None} if sizes else {},
        text=_setup(study),
        summary=runs.text() if sizes else [],
    )


def with_most_jets(sizes: list[Size]) -> list[Size]:
    """Sizes that saw as many jets as any: only they are steps on the way from small to large."""
    most = max(size.jets_seen for size in sizes)
    return [size for size in sizes if size.jets_seen == most]


def compare_sizes(task: str, sizes: list[Size]) -> list[str]:
    """Say how the held-out loss changes from the smallest to the largest model at equal numbers of jets."""
    compared = with_most_jets(sizes)
    small, large = compared[0], compared[-1]
    unit = UNIT[large.first.task]
    seeds = dict.fromkeys(str(len(size.runs)) for size in (small, large))
    spreads = dict.fromkeys(f"{size.spread:.4f}" for size in (small, large) if size.spread is not None)
    error = "errors of the held-out jets, one seed per size"
    if spreads:
        error = f"means over {' and '.join(seeds)} seeds, which scatter by {' and '.join(spreads)}"
    if small is large:
        return [f"{task.capitalize()}: {large.parameters:,} parameters reach a held-out loss of {large.text} nats "
                f"per {unit} after {large.jets_seen:,} jets ({error})."]  # fmt: skip
    return [
        f"{task.capitalize()}: from {small.parameters:,} to {large.parameters:,} parameters, after "
        f"{large.jets_seen:,} jets each, the held-out loss goes from {small.text} to {large.text} nats per {unit} "
        f"({error})."
    ]


def cautions(study: Study) -> list[str]:
    """Say what is odd about the runs of a study."""
    lines = []
    for kind in TASKS.values():
        for run, record in study.runs(kind).items():
            lines += _odd(run, record)
    for kind in TASKS.values():
        sizes = study.sizes(kind)
        lines += _inversions(kind, with_most_jets(sizes)) if sizes else []
    if not any(study.runs(kind) for kind in TASKS.values()):
        return lines
    single = [task for task, kind in TASKS.items() if study.runs(kind) and _one_seed(study.sizes(kind))]
    lines.append(
        "Points on one learning curve share their noise"
        + (
            f"; with one seed per size, the intervals for {' and '.join(single)} do not contain the spread between "
            "seeds."
            if single
            else "; the spread between seeds enters where a size has several."
        )
    )
    return lines


def _odd(run: str, record: RunRecord) -> list[str]:
    lines = []
    losses = [e.metrics["loss"] for e in record.evaluations]
    if losses[-1] > min(losses) + 3 * record.final.metrics["loss_error"]:
        lines.append(f"{run}: the loss rises again at the end; the learning rate may be too high.")
    if record.jets_seen > record.jets_unique:
        lines.append(
            f"{run}: saw {record.jets_unique:,} jets {record.jets_seen / record.jets_unique:.2g} times, although the "
            "laws of its task describe a single pass."
        )
    return lines


def _inversions(kind: str, sizes: list[Size]) -> list[str]:
    return [
        f"{kind}: the larger {b.name} ends above the smaller {a.name}, at {b.text} and {a.text}."
        for a, b in pairwise(sizes)
        if b.parameters > a.parameters and b.loss - a.loss > 3 * np.hypot(a.error, b.error)
    ]


def _one_seed(sizes: list[Size]) -> bool:
    return all(len(size.runs) == 1 for size in sizes)


# -- tables and figure ----------------------------------------------------------------------------------------


def _sizes_table(task: str, sizes: list[Size]) -> Table:
    unit = UNIT[sizes[0].first.task]
    return Table.of(
        f"Sizes, {task}",
        "Held-out loss at the end of training, mean over seeds. Its error combines that of the held-out jets, which "
        "all seeds share, with that of the mean over seeds; the spread is the standard deviation over seeds.",
        sizes,
        [
            ("size", lambda s: s.name),
            ("N", lambda s: f"{s.parameters:,}"),
            ("D (jets)", lambda s: f"{s.jets_seen:,}"),
            ("C (FLOPs)", lambda s: f"{s.first.flops:.2e}"),
            ("seeds", lambda s: str(len(s.runs))),
            (f"held-out loss (nats per {unit})", lambda s: s.text),
            ("spread over seeds", lambda s: "" if s.spread is None else f"{s.spread:.4f}"),
        ],
    )


def runs_table(study: Study) -> Table:
    """One row per training run."""
    runs = [item for kind in TASKS.values() for item in study.runs(kind).items()]
    return Table.of(
        "Training runs",
        "N counts parameters and C is counted from the architecture; the loss is that of held-out jets, in nats per "
        "token (generators) or per jet (taggers), with its statistical error.",
        runs,
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


def _curves(study: Study, sizes: dict[str, list[Size]]) -> Picture:
    return Picture(
        "curves",
        "Learning curves",
        "Held-out loss against jets seen, one line per size: the mean over seeds, with a band of their spread where "
        "there are several, and otherwise the statistical error of the held-out jets. The learning rate is constant "
        "after warm-up, so each point on a curve stands for a run with that many jets. Points left of the grey line "
        f"({study.config.fit.min_jets:,} jets) are not fitted.",
        learning_curves(sizes, study.config.fit.min_jets),
    )


@styled
def learning_curves(sizes: dict[str, list[Size]], min_jets: int = 0) -> Figure:
    """Held-out loss against jets seen, one panel per task and one line per size."""
    figure = Figure(figsize=(5.2 * len(sizes), 4.3))
    axes = figure.subplots(1, len(sizes), squeeze=False)[0]
    for ax, (task, of_task) in zip(axes, sizes.items(), strict=True):
        colours = shades(size.name for size in of_task)
        for size in of_task:
            jets, loss, band = _curve(size)
            colour = colours[size.name]
            ax.plot(jets, loss, "o-", ms=3, lw=1.2, color=colour, label=f"{size.parameters:,}")
            ax.fill_between(jets, loss - band, loss + band, color=colour, alpha=0.2, lw=0)
        if min_jets > ax.get_xlim()[0]:
            ax.axvline(min_jets, color="grey", lw=0.8)
        unit = UNIT[of_task[0].first.task]
        ax.set(xscale="log", xlabel="jets seen D", ylabel=f"held-out loss [nats per {unit}]", title=task)
        ax.legend(title="parameters N", fontsize=8, title_fontsize=8, ncols=2 if len(of_task) > 6 else 1)
    return figure


def _curve(size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Jets seen, mean loss over the seeds, and its spread; with one seed, the statistical error."""
    steps = [{e.jets_seen: e.metrics for e in record.evaluations} for record in size.runs.values()]
    jets = sorted(set.intersection(*map(set, steps)))
    loss = np.array([[run[d]["loss"] for d in jets] for run in steps])
    error = np.array([[run[d]["loss_error"] for d in jets] for run in steps])
    return np.array(jets), loss.mean(axis=0), loss.std(axis=0, ddof=1) if len(steps) > 1 else error[0]


# -- words ----------------------------------------------------------------------------------------------------


def _setup(study: Study) -> list[str]:
    config = study.config
    lines = _jets(config) if splits_read(config) else [f"Tokens from {config.tokenizer.tokens}."]
    if study.runs("generator"):
        lines.append(_generators(study, config))
    if study.runs("tagger"):
        lines.append(_taggers(study, config))
    if study.records:
        lines.append(
            f"Laws are fitted to points with at least {config.fit.min_jets:,} jets seen, with {config.fit.bootstrap} "
            "bootstrap resamples."
        )
    return lines


def _jets(config: StudyConfig) -> list[str]:
    jets = config.jets
    if jets.stores:
        return [f"Jets from {jets.stores}."]
    if jets.world:
        changed = "".join(f", {key}={value}" for key, value in jets.parameters.items())
        return [f"Jets of the world {jets.world}{changed}, whose limits are known."]
    counts = ", ".join(f"{getattr(jets, split):,} {split}" for split in splits_read(config))
    lines = [
        f"{counts} jets of {len(jets.classes)} classes, simulated with Pythia 8 at 13 TeV and a parametrised CMS-like "
        "detector; anti-kT jets with R = 0.8, 500 < pT < 1000 GeV and |eta| < 2."
    ]
    if not jets.mpi:
        lines.append(
            "Multiparton interactions are off, which makes the simulation seven times faster: multiplicities and "
            "masses are lower than in data or JetClass. Set jets.mpi=true to compare with either."
        )
    return lines


def _generators(study: Study, config: StudyConfig) -> str:
    sizes, given = study.sizes("generator"), config.tokenizer.folder
    coder = f"The tokenizer is a VQ-VAE with {config.tokenizer.model.codebook_size} codes"
    if config.jets.world or given:
        coder = f"Tokenizer {'of the world' if config.jets.world else f'from {given}'}"
    drawn = (
        f" {config.samples.jets:,} jets are drawn from each generator and scored against as many test jets."
    )
    return (
        f"{len(study.runs('generator'))} generators of {sizes[0].parameters:,} to {sizes[-1].parameters:,} parameters: "
        f"one pass over the data, held-out loss at log-spaced steps, {config.generator.training.schedule} learning "
        f"rate after warm-up. {coder}.{'' if config.jets.world else drawn}"
    )


def _taggers(study: Study, config: StudyConfig) -> str:
    sizes = study.sizes("tagger")
    # From the store, because stores that the study did not simulate have classes of their own.
    classes = study.jets("train").classes
    return (
        f"{len(study.runs('tagger'))} taggers of {sizes[0].parameters:,} to {sizes[-1].parameters:,} parameters: one "
        f"pass over the data, {len(classes)} classes, features {config.tagger.features} of at most "
        f"{config.tagger.max_particles} particles."
    )
