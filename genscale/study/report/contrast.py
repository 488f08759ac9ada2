"""Several studies beside each other: the learnable window of generation against the limits of tagging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a page is made where there may be no screen

from tqdm import tqdm

from eval.scaling import contrast
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.files import write_atomic, write_csv
from genscale.pages import picture, render
from genscale.study.report.analysis import COMMON_LEVEL, TaskLaws, analyse, found_windows, jet_folder
from genscale.study.report.figures import draw_windows
from genscale.study.report.findings import misfit_findings, window_findings
from genscale.study.report.tables import exponent_table, law_table, sensitivity_table, window_table
from genscale.study.run import finished_config


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
        misfits = [line for name, laws in self.tasks.items() for line in misfit_findings(name, laws)]
        return window_findings(self.tasks) + misfits

    @property
    def odd(self) -> list[str]:
        """What to know before believing the rest."""
        lines = [
            "Generation is measured in nats per token, tagging in nats per jet: compare shares and occupancies, "
            "not nats."
        ]
        if not self.same_jets:
            lines.append("The studies trained on different jets: what differs may be the jets, not the task.")
        return lines

    def write(self, out: Path) -> Path:
        """Write ``contrast.html``, ``contrast.csv`` and ``window.png`` into a folder.

        Returns
        -------
        Path
            The page.

        Raises
        ------
        InputError
            If no task has a window.
        """
        windows = found_windows(self.tasks)
        if not windows:
            reasons = "; ".join(f"{name}: {laws.window}" for name, laws in self.tasks.items())
            raise InputError(f"nothing to contrast, no task has a learnable window ({reasons})")
        drawn = draw_windows(windows)
        page = render(
            "contrast.html",
            title=" beside ".join(self.tasks),
            found=self.found,
            odd=self.odd,
            origins=self.origins,
            figures=[("window", drawn.title, drawn.caption, picture(drawn.image, out / "window.png"))],
            tables=[
                window_table(self.tasks), sensitivity_table(self.tasks), law_table(self.tasks),
                exponent_table(self.tasks),
            ],
        )  # fmt: skip
        write_csv(out / "contrast.csv", contrast(windows, COMMON_LEVEL))
        write_atomic(out / "contrast.html", page)
        return out / "contrast.html"


def contrast_studies(folders: Sequence[Path], *, progress: bool = True) -> Contrast:
    """Analyse finished studies and put their tasks under one roof.

    Raises
    ------
    InputError
        If a study is not finished, or two folders have one name and one task.
    """
    configs = {folder: finished_config(folder) for folder in folders}
    found: list[tuple[Path, str, TaskLaws]] = []
    origins, jets = [], set()
    for folder, config in tqdm(configs.items(), unit="study", desc="analyse", disable=not progress):
        tasks = analyse(folder, config).tasks
        found += [(folder, name, laws) for name, laws in tasks.items()]
        train = JetStore.open(jet_folder(folder, config) / "train", verify=False)
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
