"""The door of every store: columns that break the schema do not get in.

Simulation, foreign files and generators all write through here, so whoever reads a store can rely on
its types, on particles ordered by falling pT and on labels that are one-hot.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import awkward as ak
import numpy as np

from genscale.data.columns import Column, from_awkward, to_awkward
from genscale.data.schema import (
    CLASSES,
    COLUMNS,
    DTYPES,
    JET_KINEMATICS,
    LABELS,
    PARTICLE_COLUMNS,
    REQUIRED_COLUMNS,
    TOKEN_COLUMNS,
)
from genscale.errors import InputError

#: Relative slack on the order by falling pT: momenta are float32 and equal neighbours may swap in rounding.
_ORDER_SLACK = 1e-4

#: Where a value that is not finite is an error; substructure and truth may be undefined for a jet.
_FINITE = frozenset(PARTICLE_COLUMNS + JET_KINEMATICS)


def conform_jets(columns: Mapping[str, Column], where: str) -> tuple[dict[str, Column], np.ndarray]:
    """Check columns against the schema and give them its types and order.

    Parameters
    ----------
    columns
        Columns of jets; part_* are lists.
    where
        What to call them in messages.

    Returns
    -------
    columns, labels
        The same columns in schema order and types, and the class index of every jet, int64 [n_jets], or
        [0] where the jets have no label columns.

    Raises
    ------
    InputError
        For a missing or unknown column, lists of different lengths, values that are not finite or do not
        fit their type, particles that are not ordered by falling pT, labels that are not one-hot.
    """
    for name in REQUIRED_COLUMNS:
        if name not in columns:
            raise InputError(f"{where}: column {name} is missing (found {', '.join(columns)})")
    for name in columns:
        if name not in DTYPES:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            raise InputError(
                f"{where}: column {name} is not in the jet schema"
                + (f"; nearest is {near[0]}" if near else "")
            )
    result = {name: _typed(columns[name], name, where) for name in COLUMNS if name in columns}
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
    """Class index of every jet; empty for jets of no known class, which have no label columns at all."""
    found = [name for name in LABELS if name in columns]
    if not found:
        return np.empty(0, dtype=np.int64)
    if len(found) < len(LABELS):
        missing = next(name for name in LABELS if name not in columns)
        raise InputError(f"{where}: column {missing} is missing; give all label columns or none")
    one_hot = np.stack([columns[name].content for name in LABELS])
    if (one_hot.max(axis=0, initial=0) != 1).any() or (one_hot.sum(axis=0) != 1).any():
        raise InputError(f"{where}: every jet needs exactly one of {', '.join(LABELS)} set to 1")
    return one_hot.argmax(axis=0)


def conform_tokens(
    columns: Mapping[str, Column], vocabulary_size: int, where: str
) -> tuple[dict[str, Column], np.ndarray]:
    """Check token sequences; return them in the smallest type that holds the vocabulary, and the labels.

    Raises
    ------
    InputError
        For other columns than `TOKEN_COLUMNS`, tokens outside 0 .. vocabulary_size - 1, unknown classes.
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
    if _outside(label.content, len(CLASSES)):
        raise InputError(
            f"{where}: labels must lie in 0 to {len(CLASSES) - 1}, the positions in schema.CLASSES"
        )
    dtype = np.uint16 if vocabulary_size <= 2**16 else np.int32
    result = {
        "tokens": Column(tokens.content.astype(dtype), tokens.offsets),
        "label": Column(label.content.astype(np.int8)),
    }
    return result, label.content.astype(np.int64)


def by_falling_pt(jets: ak.Array) -> ak.Array:
    """The same jets with the particles of each sorted by falling pT; equal pT keep their order."""
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
    """Particles (flat positions) whose follower in the same jet has more pT."""
    rises = pt_gev[1:] > pt_gev[:-1] * (1 + slack)
    lasts = offsets[1:-1] - 1
    rises[lasts[(lasts >= 0) & (lasts < len(rises))]] = False
    return np.flatnonzero(rises)


def _typed(column: Column, name: str, where: str) -> Column:
    column = column.compact()
    dtype = np.dtype(DTYPES[name])
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
