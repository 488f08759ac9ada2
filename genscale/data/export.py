"""Export of a jet store to ROOT files in the layout of JetClass, for other programs of the field.

Tree name, branch names and element types are those of JetClass. There is one difference: particle branches are
variable-length arrays counted by a branch `npart`, because uproot cannot write the ``std::vector`` of JetClass;
RDataFrame, uproot and weaver read both as lists.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import awkward as ak
import numpy as np
from tqdm import tqdm

from genscale.data import schema
from genscale.data.manifest import clear_errors, partial_path
from genscale.data.store import JetStore
from genscale.errors import InputError

#: Names of JetClass's files of each class (after the simulated process).
FILE_NAMES: Final = {
    "QCD": "ZJetsToNuNu",
    "Hbb": "HToBB",
    "Hcc": "HToCC",
    "Hgg": "HToGG",
    "H4q": "HToWW4Q",
    "Hqql": "HToWW2Q1L",
    "Zqq": "ZToQQ",
    "Wqq": "WToQQ",
    "Tbqq": "TTBar",
    "Tbl": "TTBarLep",
}

#: Element types of JetClass branches that are not float32. The mixture of label types is JetClass's own.
BRANCH_DTYPES: Final = {
    **dict.fromkeys(schema.IDENTITY[1:], "int32"),
    **dict.fromkeys(("label_Hbb", "label_Hcc", "label_Hgg", "label_H4q", "label_Hqql"), "bool"),
    **dict.fromkeys(("label_Zqq", "label_Wqq", "label_Tbqq", "label_Tbl"), "int32"),
}

#: Jets in one JetClass file.
ROWS_PER_FILE: Final = 100_000

_ROWS_AT_ONCE = 10_000


def export_root(
    store: JetStore, out_dir: Path | str, rows_per_file: int = ROWS_PER_FILE, progress: bool = False
) -> list[Path]:
    """Write the jets of a store to JetClass ROOT files, one series per class (``HToBB_000.root``, ...).

    Parameters
    ----------
    store : JetStore
        The jets; columns that it lacks (generated jets have no displacements) are left out.
    out_dir : Path or str
        Folder of the files. It must not exist yet, and appears only when all files are complete.
    rows_per_file : int
        Number of jets in a file.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Path
        The files, in the order of the classes.

    Raises
    ------
    InputError
        The folder exists, or the disk is full or not writable.
    """
    import uproot

    out_dir = Path(out_dir)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise InputError(f"{out_dir}: already there; choose another folder or remove it first")
    labels = store.labels()
    partial = partial_path(out_dir)
    plan: list[tuple[Path, np.ndarray]] = []
    for index, name in enumerate(store.class_names):
        rows = np.flatnonzero(labels == index)
        for number, start in enumerate(range(0, len(rows), rows_per_file)):
            plan.append(
                (
                    partial / f"{FILE_NAMES.get(name, name)}_{number:03d}.root",
                    rows[start : start + rows_per_file],
                )
            )
    with (
        clear_errors(out_dir),
        tqdm(total=len(store), unit="jet", disable=not progress, desc="export") as bar,
    ):
        shutil.rmtree(partial, ignore_errors=True)  # left by an export that was killed
        partial.mkdir(parents=True)
        for file, rows in plan:
            with uproot.recreate(file) as root:
                for start in range(0, len(rows), _ROWS_AT_ONCE):
                    branches = _branches(store.read(rows[start : start + _ROWS_AT_ONCE]))
                    if start == 0:
                        root.mktree("tree", {name: array.type.content for name, array in branches.items()})
                    root["tree"].extend(branches)
                    bar.update(min(_ROWS_AT_ONCE, len(rows) - start))
        partial.replace(out_dir)
    return [out_dir / file.name for file, _ in plan]


def _branches(jets: ak.Array) -> dict[str, ak.Array]:
    typed = {name: ak.values_astype(jets[name], BRANCH_DTYPES.get(name, "float32")) for name in jets.fields}
    particles = {
        name.removeprefix("part_"): typed.pop(name) for name in schema.PARTICLE_COLUMNS if name in typed
    }
    return {"part": ak.zip(particles), **typed}
