"""The report of a study: one self-contained HTML page, with the same as CSV, JSON and figures beside it."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a report is made where there may be no screen

from omegaconf import OmegaConf

from genscale.config import to_mapping
from genscale.data.store import JetStore
from genscale.files import read_json, write_atomic, write_json
from genscale.pages import picture, render
from genscale.study.cells import splits_read
from genscale.study.config import StudyConfig
from genscale.study.report.analysis import Analysis, TaskLaws, analyse, jet_folder
from genscale.study.report.figures import Drawn, study_figures
from genscale.study.report.findings import findings, oddities
from genscale.study.report.literature import compare_with_literature, literature_tables
from genscale.study.report.tables import (
    Table,
    exponent_table,
    fidelity_table,
    interval,
    law_table,
    quality_table,
    ranking_table,
    run_table,
    sensitivity_table,
    window_table,
)
from genscale.study.report.tagging import analyse_physics, analyse_repetition
from genscale.study.report.tagging_tables import (
    physics_figures,
    physics_findings,
    physics_tables,
    repetition_figures,
    repetition_findings,
    repetition_tables,
)
from genscale.study.report.variations import VARIATIONS_FILE, variation_tables, write_variations


def write_report(folder: Path, config: StudyConfig) -> Path:
    """Analyse a study's runs and write ``report.html``, ``fits.json``, ``fidelity.json``, ``summary.txt``, figures.

    Returns
    -------
    Path
        The HTML page.
    """
    analysis = analyse(folder, config)
    if analysis.tasks:
        write_json(folder / "fits.json", {task.task: task.to_dict() for task in analysis.tasks.values()})
    if analysis.fidelity:
        scores = {run: score.to_dict() for run, score in analysis.fidelity.items()}
        write_json(folder / "fidelity.json", scores)
    measured = folder / "quality" / "quality.json"
    quality = read_json(measured) if measured.exists() else None
    tagging = analysis.tasks.get("tagging")
    physics = analyse_physics(folder, config, tagging) if tagging else None
    repetition = analyse_repetition(folder, config, tagging) if tagging else None
    figures: dict[str, Drawn] = {}
    tables = variation_tables(config.variations, write_variations(folder, config.variations))
    if analysis.tasks:
        figures |= study_figures(analysis, folder, config)
        tables = [
            run_table(analysis), law_table(analysis.tasks), exponent_table(analysis.tasks), ranking_table(analysis),
            window_table(analysis.tasks), sensitivity_table(analysis.tasks), *tables,
        ]  # fmt: skip
    found = findings(analysis, config)
    if analysis.fidelity:
        tables.append(fidelity_table(analysis))
    if quality is not None:
        tables.append(quality_table(quality))
    if physics is not None:
        write_json(folder / "tagging.json", physics.to_dict())
        figures |= physics_figures(analysis, physics)
        tables += physics_tables(analysis, physics)
        found += physics_findings(physics)
    if repetition is not None:
        write_json(folder / "repetition.json", repetition.to_dict())
        figures |= repetition_figures(repetition)
        tables += repetition_tables(repetition)
        found += repetition_findings(repetition)
    if analysis.tasks:
        literature = compare_with_literature(folder, config, analysis, physics, repetition)
        write_json(folder / "claims.json", literature.to_dict())
        tables += literature_tables(literature)
    drawn = [(name, figure.title, figure.caption, picture(figure.image, folder / "figures" / f"{name}.png"))
             for name, figure in figures.items()]  # fmt: skip
    page = render(
        "study.html",
        name=config.name,
        found=found,
        odd=oddities(analysis, quality, config),
        setup=_setup(analysis, folder, config),
        figures=drawn,
        tables=tables,
        configuration=OmegaConf.to_yaml(OmegaConf.create(to_mapping(config))),
    )
    write_atomic(folder / "summary.txt", _summary(analysis, tables))
    write_atomic(folder / "report.html", page)
    return folder / "report.html"


# -- words ----------------------------------------------------------------------------------------------------


def _setup(analysis: Analysis, folder: Path, config: StudyConfig) -> list[str]:
    lines = _setup_of_jets(config) if splits_read(config) else [f"Tokens from {config.tokenizer.tokens}."]
    if config.generator.sizes:
        lines += _setup_of_generation(analysis, config)
    if config.tagger.widths:
        lines += _setup_of_tagging(analysis, folder, config)
    if analysis.tasks:
        lines.append(
            f"Fits use points with at least {config.fit.min_jets:,} jets seen and {config.fit.bootstrap} bootstrap "
            "resamples."
        )
    return [*lines, f"All numbers: {', '.join(_data_files(config))} beside this page."]


def _setup_of_jets(config: StudyConfig) -> list[str]:
    jets = config.jets
    if jets.stores:
        return [f"Jets from {jets.stores}."]
    counts = [f"{getattr(jets, split):,} {split}" for split in splits_read(config)]
    lines = [
        f"{', '.join(counts)} jets of {len(jets.classes)} classes, simulated with Pythia 8 at 13 TeV and a "
        "parametrised CMS-like detector; anti-kT R = 0.8, 500 < pT < 1000 GeV, |eta| < 2."
    ]
    if not jets.mpi:
        lines.append(
            "Multiparton interactions are OFF (seven times faster): multiplicities and masses are lower than in "
            "data or JetClass. Set jets.mpi=true for jets to compare with either."
        )
    return lines


def _data_files(config: StudyConfig) -> list[str]:
    laws = config.generator.sizes or config.tagger.widths
    names = ["points.csv", "fits.json", "claims.json"] if laws else []
    names += ["fidelity.json"] if config.generator.sizes else []
    names += ["tagging.json"] if config.tagger.widths else []
    names += ["repetition.csv", "repetition.json"] if config.repetition.widths else []
    return names + [VARIATIONS_FILE] * any(config.variations.runs())


def _setup_of_generation(analysis: Analysis, config: StudyConfig) -> list[str]:
    sizes = [r.parameters["total"] for _, r in analysis.runs("generator")]
    given, model = config.tokenizer.folder, config.tokenizer.model
    return [
        f"Tokenizer from {given}." if given else f"A VQ-VAE tokenizer with {model.codebook_size} codes.",
        f"{len(sizes)} generator runs of {min(sizes):,} to {max(sizes):,} parameters, single pass, held-out loss at "
        f"log-spaced steps, {config.generator.training.schedule} learning rate after warm-up.",
        f"{config.samples.jets:,} jets drawn from every generator and scored against as many test jets.",
    ]


def _setup_of_tagging(analysis: Analysis, folder: Path, config: StudyConfig) -> list[str]:
    widths = [r.parameters["total"] for _, r in analysis.runs("tagger")]
    # Of the store, for stores that the study did not simulate have the classes that they have.
    classes = JetStore.open(jet_folder(folder, config) / "train", verify=False).classes
    return [
        f"{len(widths)} tagger runs of {min(widths):,} to {max(widths):,} parameters, single pass, "
        f"{len(classes)} classes, features {config.tagger.features} of at most "
        f"{config.tagger.max_particles} particles.",
    ]


def _summary(analysis: Analysis, tables: list[Table]) -> str:
    """The tables that a terminal should show: runs, and the identified constants of the surfaces."""
    lines = tables[0].text()
    for task in analysis.tasks.values():
        lines += ["", *_surface_lines(task)]
    if not analysis.fidelity:
        return "\n".join(lines) + "\n"
    joint = {run: score.joint for run, score in analysis.fidelity.items()}
    lines += ["", "sliced Wasserstein distance of five observables (floor: reference against reference)"]
    lines += [f"  {run:22s} {j.value:.4f} ± {j.distance.standard_error:.4f}   floor {j.floor.mean:.4f}"
              for run, j in joint.items()]  # fmt: skip
    return "\n".join(lines) + "\n"


def _surface_lines(task: TaskLaws) -> list[str]:
    if task.surface is None:
        return [f"{task.task}: {task.laws['L(N,D)']}"]
    lines = [f"{task.task}: {task.surface.law.formula}"]
    for name, e in task.surface.params.items():
        lines.append(f"  {name:6s} {interval(e)}{'' if e.identified else '   not identified: ' + e.reason}")
    return lines
