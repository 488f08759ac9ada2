"""Checks of rows before they are written: every store conforms to the schema.

Simulated, converted and generated jets all pass these checks. Readers of a store can therefore rely on its types, on
particles in order of decreasing pT, and on one-hot labels.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import awkward as ak
import numpy as np

from genscale.data.columns import Column, from_awkward, to_awkward
from genscale.data.schema import (
    COLUMNS,
    DTYPES,
    JET_KINEMATICS,
    LABEL_PREFIX,
    PARTICLE_COLUMNS,
    REQUIRED_COLUMNS,
    TOKEN_COLUMNS,
    class_names,
    dtype_of,
    in_order,
    is_class_name,
)
from genscale.errors import InputError

#: Relative tolerance of the order by pT: momenta are float32, and rounding may swap neighbours of equal pT.
_ORDER_SLACK = 1e-4

#: Label, in a token store, of jets whose class is not known.
UNKNOWN_CLASS = -1

#: Where a value that is not finite is an error; substructure and truth may be undefined for a jet.
_FINITE = frozenset(PARTICLE_COLUMNS + JET_KINEMATICS)


def conform_jets(columns: Mapping[str, Column], where: str) -> tuple[dict[str, Column], np.ndarray]:
    """Check columns of jets against the schema and convert them to its types and order.

    Parameters
    ----------
    columns : mapping of str to Column
        Columns of jets; ``part_*`` are lists.
    where : str
        Name of the rows in error messages.

    Returns
    -------
    columns : dict of str to Column
        The same columns in the order and the types of the schema.
    labels : array of int64, shape (n_jets,)
        Class index of each jet; empty if the jets have no label columns.

    Raises
    ------
    InputError
        A column is missing or unknown, lists differ in length, values are not finite or do not fit their type,
        particles are not in order of decreasing pT, or labels are not one-hot.
    """
    for name in REQUIRED_COLUMNS:
        if name not in columns:
            raise InputError(f"{where}: column {name} is missing (found {', '.join(columns)})")
    for name in columns:
        if name.startswith(LABEL_PREFIX):
            if not is_class_name(name.removeprefix(LABEL_PREFIX)):
                raise InputError(
                    f"{where}: column {name!r}: a class is named by letters, digits and _ . + - only"
                )
        elif name not in DTYPES:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            raise InputError(
                f"{where}: column {name} is not in the jet schema"
                + (f"; nearest is {near[0]}" if near else "")
            )
    result = {name: _typed(columns[name], name, where) for name in in_order(columns)}
    for name in ("jet_pt", "jet_energy"):
        if (result[name].content < 0).any():
            raise InputError(f"{where}: column {name} has negative values")
    counts = result["part_px"].counts()
    for name, column in result.items():
        if (name in PARTICLE_COLUMNS) != (column.offsets is not None):
            raise InputError(
                f"{where}: column {name} must hold {'lists' if column.offsets is None else 'numbers'}"
            )
        if column.offsets is not None and not np.array_equal(column.counts(), counts):
            raise InputError(f"{where}: column {name} has other list lengths than part_px")
    labels = _labels(result, where)
    offsets = result["part_px"].bounds
    rises = _rises(_pt_gev(result), offsets, slack=_ORDER_SLACK)
    if len(rises):
        jet = int(np.searchsorted(offsets, rises[0], side="right")) - 1
        raise InputError(f"{where}: particles of jet {jet} are not ordered by falling pT")
    return result, labels


def _labels(columns: Mapping[str, Column], where: str) -> np.ndarray:
    """Return the class index of each jet; empty for jets of unknown class, which have no label columns."""
    found = [LABEL_PREFIX + name for name in class_names(columns)]
    if not found:
        return np.empty(0, dtype=np.int64)
    one_hot = np.stack([columns[name].content for name in found])
    if (one_hot.max(axis=0, initial=0) != 1).any() or (one_hot.sum(axis=0, dtype=np.int64) != 1).any():
        raise InputError(f"{where}: every jet needs exactly one of {', '.join(found)} set to 1")
    return one_hot.argmax(axis=0)


def conform_tokens(
    columns: Mapping[str, Column], vocabulary_size: int, n_classes: int, where: str
) -> tuple[dict[str, Column], np.ndarray]:
    """Check token sequences, and convert them to the smallest type that holds the vocabulary.

    Parameters
    ----------
    columns : mapping of str to Column
        The columns `TOKEN_COLUMNS`.
    vocabulary_size : int
        Number of tokens, including start and stop tokens.
    n_classes : int
        Number of classes; 0 for jets of unknown class, whose label is -1.
    where : str
        Name of the rows in error messages.

    Returns
    -------
    columns : dict of str to Column
    labels : array of int64, shape (n_jets,)
        Class index of each jet; empty if the classes are unknown.

    Raises
    ------
    InputError
        The columns are not `TOKEN_COLUMNS`, a token lies outside 0 .. vocabulary_size - 1, or a class is unknown.
    """
    if set(columns) != set(TOKEN_COLUMNS):
        raise InputError(
            f"{where}: a token store has the columns {', '.join(TOKEN_COLUMNS)} (found {', '.join(columns)})"
        )
    tokens, label = columns["tokens"].compact(), columns["label"]
    if tokens.offsets is None or label.offsets is not None:
        raise InputError(f"{where}: tokens must hold lists and label numbers")
    if _outside(tokens.content, vocabulary_size):
        raise InputError(
            f"{where}: tokens from {tokens.content.min()} to {tokens.content.max()}; "
            f"the vocabulary has 0 to {vocabulary_size - 1}"
        )
    if n_classes and _outside(label.content, n_classes):
        raise InputError(f"{where}: labels must lie in 0 to {n_classes - 1}, the positions of the classes")
    if not n_classes and (label.content != UNKNOWN_CLASS).any():
        raise InputError(f"{where}: labels of jets of unknown class must be {UNKNOWN_CLASS}")
    dtype = np.uint16 if vocabulary_size <= 2**16 else np.int32
    result = {
        "tokens": Column(tokens.content.astype(dtype), tokens.offsets),
        "label": Column(label.content.astype(np.int8 if n_classes <= 2**7 else np.int16)),
    }
    return result, label.content[: None if n_classes else 0].astype(np.int64)


def by_falling_pt(jets: ak.Array) -> ak.Array:
    """Return the jets with their particles in order of decreasing pT; particles of equal pT keep their order."""
    columns = from_awkward(jets)
    particles = {name: column for name, column in columns.items() if name in PARTICLE_COLUMNS}
    pt_gev, offsets = _pt_gev(columns), columns["part_px"].bounds
    if not len(_rises(pt_gev, offsets)):
        return jets
    jet = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((-pt_gev, jet))
    sorted_ = {name: Column(column.content[order], column.offsets) for name, column in particles.items()}
    return to_awkward({**columns, **sorted_}, len(jets))


def _pt_gev(columns: Mapping[str, Column]) -> np.ndarray:
    return np.hypot(
        columns["part_px"].content.astype(np.float64), columns["part_py"].content.astype(np.float64)
    )


def _rises(pt_gev: np.ndarray, offsets: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Return the flat positions of particles that are followed, in the same jet, by a particle of higher pT."""
    rises = pt_gev[1:] > pt_gev[:-1] * (1 + slack)
    lasts = offsets[1:-1] - 1
    rises[lasts[(lasts >= 0) & (lasts < len(rises))]] = False
    return np.flatnonzero(rises)


def _typed(column: Column, name: str, where: str) -> Column:
    column = column.compact()
    dtype = np.dtype(dtype_of(name))
    content = column.content
    if content.dtype != dtype:
        content = content.astype(dtype)
        if dtype.kind == "i" and not np.array_equal(content, column.content):
            raise InputError(f"{where}: column {name} must hold whole numbers that fit {dtype}")
    if name in _FINITE and not np.isfinite(content).all():
        raise InputError(f"{where}: column {name} has values that are not finite")
    return Column(content, column.offsets)


def _outside(values: np.ndarray, stop: int) -> bool:
    return bool(len(values)) and bool(values.min() < 0 or values.max() >= stop)
