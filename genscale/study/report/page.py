"""The report of a study: one self-contained HTML page of sections, with their data, tables and figures beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from genscale.config import to_mapping
from genscale.errors import InputError
from genscale.files import write_atomic, write_json
from genscale.pages import Section, write_page
from genscale.study.config import StudyConfig
from genscale.study.jobs import Job
from genscale.study.report import (
    answer,
    codebooks,
    control,
    distances,
    fidelity,
    laws,
    literature,
    physics,
    repetition,
    runs,
    tokenizers,
    unfinished,
    variations,
    window,
    worlds,
)
from genscale.study.results.study import Study

#: Topics in the order of the page; each has a function ``section(study)``.
TOPICS = (
    unfinished, runs, worlds, control, laws, window, codebooks, fidelity, distances, physics, repetition, literature,
    tokenizers, variations,
)  # fmt: skip


def write_report(folder: Path, config: StudyConfig) -> Path:
    """Analyse a study's runs and write ``report.html``, its data as JSON and CSV, ``summary.txt`` and figures.

    Parameters
    ----------
    folder : Path
        The study's folder. If not all of its cells are done, the page says at its top which are missing.
    config : StudyConfig
        The study.

    Returns
    -------
    Path
        The HTML page.

    Raises
    ------
    InputError
        No training of the study is finished.
    """
    study = Study(folder, config)
    if study.records.keys() <= {"tokenizer"}:
        raise InputError(f"{folder}: no training of this study is finished; start it with genscale study run")
    sections = [section for topic in TOPICS if (section := topic.section(study)) is not None]
    summary = "\n\n".join("\n".join(section.summary) for section in sections if section.summary)
    write_atomic(folder / "summary.txt", summary + "\n")
    return write_page(
        folder / "report.html",
        f"Scaling of jets: {config.name}",
        "How the losses of generators and taggers depend on model size, data and compute.",
        [*sections, _reproduce(config)],
        figures=folder / "figures",
        tables=folder / "tables",
        answer=answer.answer(study),
    )


@dataclass(frozen=True)
class Report(Job):
    """Make the report of a study.

    Attributes
    ----------
    done_file : str
        File whose presence says that the report is made.
    config : StudyConfig
        The study.
    """

    done_file = "done.json"

    config: StudyConfig

    def run(self, study: Path, out: Path) -> None:
        """Write the report into the folder of the study, and a note of it into that of the job."""
        write_report(study, self.config)
        write_json(out / self.done_file, {"report": "report.html"})


def _reproduce(config: StudyConfig) -> Section:
    text = (
        f"Save the configuration below as {config.name}.yaml and run genscale study run {config.name}.yaml. The same "
        "seeds give the same numbers on the same kind of processor. Learning curves can be viewed with TensorBoard: "
        f"tensorboard --logdir runs/{config.name}."
    )
    listing = OmegaConf.to_yaml(OmegaConf.create(to_mapping(config)))
    return Section("How to reproduce", text=[text], listing=listing)
