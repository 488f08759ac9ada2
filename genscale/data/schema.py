"""The jet schema of the project: branch names and units of JetClass.

Simulated, converted and generated jets are all stored with this schema. The particles of a jet are in order of
decreasing pT. Momenta and energies are in GeV, displacements in mm, angles in radians; differences of eta and phi are
relative to the jet axis, as in JetClass (Qu, Li and Qian, arXiv:2202.03772, and Zenodo record 6619768).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: The ten classes of JetClass, in its order. They are those of simulated jets; a store may have any others.
CLASSES: Final = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")

#: What the names of label columns begin with; the rest is the name of the class.
LABEL_PREFIX: Final = "label_"

LABELS: Final = tuple(LABEL_PREFIX + name for name in CLASSES)

#: Particle columns that every store has; generated jets have only these.
KINEMATICS: Final = ("part_px", "part_py", "part_pz", "part_energy", "part_deta", "part_dphi")

#: Impact parameters and their errors in mm; zero for neutral particles.
DISPLACEMENTS: Final = ("part_d0val", "part_d0err", "part_dzval", "part_dzerr")

#: Electric charge, and flags of the five particle types, which exclude each other.
IDENTITY: Final = (
    "part_charge",
    "part_isChargedHadron",
    "part_isNeutralHadron",
    "part_isPhoton",
    "part_isElectron",
    "part_isMuon",
)

PARTICLE_COLUMNS: Final = KINEMATICS + DISPLACEMENTS + IDENTITY

#: Jet columns that every store has.
JET_KINEMATICS: Final = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_nparticles")

JET_SUBSTRUCTURE: Final = ("jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4")

#: The generated particle that the jet comes from, and whether its quarks lie inside the jet.
TRUTH: Final = ("aux_genpart_eta", "aux_genpart_phi", "aux_genpart_pid", "aux_genpart_pt", "aux_truth_match")

JET_COLUMNS: Final = JET_KINEMATICS + JET_SUBSTRUCTURE + LABELS + TRUTH

#: Columns that every jet store must have. It has a label column for each of its classes, or none for jets of unknown
#: class.
REQUIRED_COLUMNS: Final = KINEMATICS + JET_KINEMATICS

COLUMNS: Final = PARTICLE_COLUMNS + JET_COLUMNS

#: Columns of a token store: sequences with their start and stop tokens, and the class index.
TOKEN_COLUMNS: Final = ("tokens", "label")

#: Type of every column on disk and in memory (the element type for particle columns). Particle types, labels and
#: counts are stored as integers; JetClass has most of them as floats.
DTYPES: Final = {
    **dict.fromkeys(COLUMNS, "float32"),
    **dict.fromkeys(IDENTITY + LABELS, "int8"),
    "jet_nparticles": "int32",
    "aux_genpart_pid": "int32",
}

_CLASS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def is_class_name(name: str) -> bool:
    """Whether a class may have this name: letters, digits and ``_ . + -``, of which the first is a letter or digit."""
    return _CLASS_NAME.fullmatch(name) is not None


def class_names(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the classes that label columns stand for; a jet's label is the position of its class in this tuple.

    Parameters
    ----------
    columns : iterable of str
        Names of columns.

    Returns
    -------
    tuple of str
        In the order of JetClass if all classes are its, else in the order of the columns.
    """
    found = [name.removeprefix(LABEL_PREFIX) for name in columns if name.startswith(LABEL_PREFIX)]
    return tuple(sorted(found, key=CLASSES.index)) if set(found) <= set(CLASSES) else tuple(found)


def in_order(columns: Iterable[str]) -> tuple[str, ...]:
    """Return these names in the order of `COLUMNS`, with label columns of any classes in the place of JetClass's."""
    names = list(columns)
    labels = [LABEL_PREFIX + name for name in class_names(names)]
    before = COLUMNS[: COLUMNS.index(LABELS[0])]
    return (*(n for n in before if n in names), *labels, *(n for n in TRUTH if n in names))


def known(names: Iterable[str]) -> tuple[str, ...]:
    """Return those names that are columns of the schema or label columns, in the order of `in_order`."""
    return in_order(name for name in names if name in DTYPES or name.startswith(LABEL_PREFIX))


def dtype_of(column: str) -> str:
    """Return the type of a column, or of the elements of a particle column."""
    return "int8" if column.startswith(LABEL_PREFIX) else DTYPES[column]
