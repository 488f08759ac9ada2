"""Several studies beside each other: the learnable window of generation against the limits of tagging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from eval.scaling import contrast
from genscale.errors import InputError
from genscale.pages import Section, write_page
from genscale.study.report import laws, window
from genscale.study.results.laws import TaskLaws, windows
from genscale.study.results.study import Study, read_config

CONTRAST_FILE = "contrast.csv"


@dataclass(frozen=True)
class Contrast:
    """Laws of the tasks of several studies.

    Attributes
    ----------
    tasks : dict
        ``generation``, ``tagging``; with the folder of its study where several have the task.
    origins : list of str
        A sentence about each study.
    same_jets : bool
        Whether all studies trained on the same jets.
    """

    tasks: Mapping[str, TaskLaws]
    origins: Sequence[str]
    same_jets: bool

    @property
    def found(self) -> list[str]:
        """Sentences for the head of the page."""
        return [line for section in self.sections() for line in section.found]

    def sections(self) -> list[Section]:
        """Return the windows and laws of all tasks, and their origin.

        Returns
        -------
        list of Section

        Raises
        ------
        InputError
            No task has a window.
        """
        found = windows(self.tasks)
        if not found:
            reasons = "; ".join(f"{name}: {laws.window}" for name, laws in self.tasks.items())
            raise InputError(f"nothing to contrast, no task has a learnable window ({reasons})")
        cautions = [
            "The learned fraction is zero at the loss of a bigram table for generation and at the entropy of the class "
            "frequencies for tagging; windows are compared in nats per jet."
        ]
        if not self.same_jets:
            cautions.append(
                "The studies used different jets, so that a difference may come from the jets and not from the task."
            )
        data = {CONTRAST_FILE: contrast(found)}
        return [
            window.show(self.tasks, data),
            laws.show(self.tasks),
            Section("Studies", cautions=cautions, text=self.origins),
        ]

    def write(self, out: Path) -> Path:
        """Write ``contrast.html``, ``contrast.csv`` and the figures into a folder.

        Parameters
        ----------
        out : Path
            The folder.

        Returns
        -------
        Path
            The page.

        Raises
        ------
        InputError
            No task has a window.
        """
        return write_page(
            out / "contrast.html",
            f"The learnable window: {' beside '.join(self.tasks)}",
            "What each task could still learn, and the compute that it would take.",
            self.sections(),
            figures=out,
        )


def contrast_studies(folders: Sequence[Path], *, progress: bool = True) -> Contrast:
    """Analyse finished studies and collect their tasks.

    Parameters
    ----------
    folders : sequence of Path
        Folders of the studies.
    progress : bool
        Show progress bars.

    Returns
    -------
    Contrast

    Raises
    ------
    InputError
        A study is not finished, or two folders have the same name and task.
    """
    studies = {folder: Study(folder, read_config(folder)) for folder in folders}
    for folder, study in studies.items():
        if missing := [cell.id for cell in study.missing]:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise InputError(
                f"{folder}: is not finished: {', '.join(missing[:3])}{more}; resume it with genscale study run"
            )
    found: list[tuple[Path, str, TaskLaws]] = []
    origins, jets = [], set()
    for folder, study in tqdm(studies.items(), unit="study", desc="analyse", disable=not progress):
        tasks = study.laws
        found += [(folder, name, laws) for name, laws in tasks.items()]
        train = study.jets("train")
        jets.add(train.fingerprint)
        origins.append(
            f"{folder.name}: {' and '.join(tasks)}, {len(train):,} training jets of {len(train.classes)} classes"
            f" (store {train.fingerprint})."
        )
    names = [name for _, name, _ in found]
    named = {
        name if names.count(name) == 1 else f"{name} ({folder.name})": laws for folder, name, laws in found
    }
    if len(named) < len(found):
        raise InputError(
            f"{', '.join(map(str, folders))}: studies that share a task need folders of different names"
        )
    return Contrast(named, origins, len(jets) == 1)
