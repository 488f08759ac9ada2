"""Parts of jet stores, and stores merged from several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import awkward as ak
import numpy as np
from tqdm import tqdm

from genscale.data import schema
from genscale.data.manifest import Manifest
from genscale.data.store import JetStore, StoreWriter
from genscale.errors import InputError, nearest

Ranges = Mapping[str, tuple[float, float]]

#: Jets of a shard, and of those read at a time.
ROWS_PER_SHARD = 20_000

#: Invariant mass of the jet in GeV, from its columns; no column of its own.
JET_MASS = "jet_mass"


def select(
    store: Path,
    out: Path,
    classes: Sequence[str] = (),
    ranges: Ranges | None = None,
    *,
    progress: bool = True,
) -> Manifest:
    """Write those jets of a store that pass a selection to a store of their own.

    Parameters
    ----------
    store : Path
        Jet store.
    out : Path
        Jet store to write; one that was interrupted is completed.
    classes : sequence of str
        Jets of these classes; all if empty. The store keeps the label columns of all classes, so that its labels have
        the same meaning.
    ranges : mapping of str to (low, high), optional
        Jets with low <= value < high of these columns of jets; `JET_MASS` is one of them.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Manifest
        Of the new store. Its meta has the selection, its `efficiency`, and the binomial error of that.

    Raises
    ------
    InputError
        There is no such class or column, or no jet passes.
    """
    source = JetStore.open(store)
    rows = passing(source, classes, ranges or {})
    share, error = efficiency(len(rows), len(source))
    meta = {
        "source": "selection",
        "source_fingerprint": source.fingerprint,
        "source_meta": source.manifest.meta,
        "split": source.manifest.meta.get("split"),
        "classes": list(classes),
        "ranges": plain_ranges(ranges or {}),
        "efficiency": share,
        "efficiency_error": error,
    }
    writer = StoreWriter(out, "jets", meta)
    with tqdm(total=len(rows), unit="jet", unit_scale=True, desc="select", disable=not progress) as bar:
        for key, part in _shards(rows):
            if not writer.has_shard(key):
                writer.write_shard(key, source.read(part))
            bar.update(len(part))
    return writer.finish()


def merge(stores: Sequence[Path], out: Path, *, progress: bool = True) -> Manifest:
    """Write the jets of several stores, one store after the other, to one.

    Parameters
    ----------
    stores : sequence of Path
        Jet stores.
    out : Path
        Jet store to write; one that was interrupted is completed. It has the classes of all stores, in the order in
        which they first come, and the columns that all stores have.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Manifest
        Of the new store; `meta["columns_left_out"]` names the columns that not all stores have.

    Raises
    ------
    InputError
        There are fewer than two stores, a store comes twice, some have labels and others have none, or they are of
        different splits.
    """
    if len(stores) < 2:
        raise InputError("merge: give at least two stores")
    sources = [JetStore.open(path) for path in stores]
    _require_mergeable(sources)
    names = [name for source in sources for name in source.class_names]
    classes = schema.class_names(schema.LABEL_PREFIX + name for name in dict.fromkeys(names))
    kept = [
        name
        for name in sources[0].columns
        if not name.startswith(schema.LABEL_PREFIX) and all(name in source.columns for source in sources)
    ]
    every = {n for source in sources for n in source.columns if not n.startswith(schema.LABEL_PREFIX)}
    meta = {
        "source": "merger",
        "stores": [
            {"name": source.path.name, "fingerprint": source.fingerprint, "jets": len(source)}
            for source in sources
        ],
        "split": sources[0].manifest.meta.get("split"),
        "columns_left_out": list(schema.in_order(every - set(kept))),
    }
    writer = StoreWriter(out, "jets", meta)
    total = sum(map(len, sources))
    with tqdm(total=total, unit="jet", unit_scale=True, desc="merge", disable=not progress) as bar:
        for number, source in enumerate(sources):
            places = np.array([classes.index(name) for name in source.class_names])
            for key, part in _shards(np.arange(len(source))):
                key = f"{number:03d}-{key}"
                if not writer.has_shard(key):
                    jets = source.read(slice(int(part[0]), int(part[-1]) + 1), columns=kept)
                    if classes:
                        jets = _labelled(jets, places[source.labels(part)], classes)
                    writer.write_shard(key, jets)
                bar.update(len(part))
    return writer.finish()


def passing(store: JetStore, classes: Sequence[str], ranges: Ranges) -> np.ndarray:
    """Return the rows of a store that pass a selection; see `select`."""
    mask = np.ones(len(store), dtype=bool)
    if classes:
        for name in classes:
            if name not in store.class_names:
                raise InputError(
                    f"{store.path}: no class {name} (found {', '.join(store.class_names) or 'none'})"
                    + nearest(name, store.class_names)
                )
        mask &= np.isin(store.labels(), [store.class_names.index(name) for name in classes])
    for name, (low, high) in ranges.items():
        values = jet_values(store, name)
        inside = (values >= low) & (values < high)
        if not inside.any():
            raise InputError(
                f"{store.path}: no jet with {name} from {low:g} to {high:g}; it goes from {np.nanmin(values):.4g} to "
                f"{np.nanmax(values):.4g}"
            )
        mask &= inside
    rows = np.flatnonzero(mask)
    if not len(rows):
        raise InputError(f"{store.path}: no jet passes the selection")
    return rows


def jet_values(store: JetStore, name: str) -> np.ndarray:
    """Return a column of numbers, shape (n_jets,), or `JET_MASS`; raises InputError if there is none such."""
    numbers = [
        n for n in store.columns if n.startswith(("jet_", "aux_")) and not n.startswith(schema.LABEL_PREFIX)
    ]
    if name != JET_MASS and name not in numbers:
        known = [JET_MASS, *numbers]
        raise InputError(
            f"{store.path}: no column {name} of jets (found {', '.join(known)})" + nearest(name, known)
        )
    if name != JET_MASS:
        return ak.to_numpy(store.read(columns=[name])[name]).astype(np.float64)
    jets = store.read(columns=["jet_pt", "jet_eta", "jet_energy"])
    pt, eta, energy = (ak.to_numpy(jets[n]).astype(np.float64) for n in jets.fields)
    momentum = pt * np.cosh(eta)
    return np.sqrt(np.maximum((energy - momentum) * (energy + momentum), 0))


def parse_ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Read ranges such as ``jet_pt=500:1000``, of which either end may be missing; raises InputError for others."""
    found = {}
    for text in texts:
        name, equals, bounds = text.partition("=")
        low, colon, high = bounds.partition(":")
        try:
            pair = (float(low or "-inf"), float(high or "inf"))
        except ValueError:
            pair = (math.nan, math.nan)
        if not (equals and colon and pair[0] < pair[1]):
            raise InputError(
                f"--range {text}: expected COLUMN=LOW:HIGH, for example jet_pt=500:1000 or jet_mass=60:"
            )
        if name in found:
            raise InputError(f"--range {text}: {name} has a range already")
        found[name.strip()] = pair
    return found


def plain_ranges(ranges: Ranges) -> dict[str, list[float | None]]:
    """Return ranges as JSON has them, which has no infinity."""
    return {name: [end if math.isfinite(end) else None for end in ends] for name, ends in ranges.items()}


def efficiency(passed: int, total: int) -> tuple[float, float]:
    """Return the share of jets that pass a selection, and its binomial error."""
    share = passed / max(total, 1)
    return share, math.sqrt(share * (1 - share) / max(total, 1))


def _require_mergeable(sources: Sequence[JetStore]) -> None:
    seen: dict[str, Path] = {}
    for source in sources:
        if source.fingerprint in seen:
            raise InputError(f"{source.path}: holds the same jets as {seen[source.fingerprint]}")
        seen[source.fingerprint] = source.path
        if bool(source.class_names) != bool(sources[0].class_names):
            one, other = (source, sources[0]) if not source.class_names else (sources[0], source)
            raise InputError(
                f"{one.path}: has no labels, but {other.path} has; convert --class NAME gives files of one class theirs"
            )
        splits = [s.manifest.meta.get("split") for s in (sources[0], source)]
        if splits[0] != splits[1]:
            raise InputError(
                f"{source.path}: of the split {splits[1] or 'none'}, but {sources[0].path} is of "
                f"{splits[0] or 'none'}; one store would mix them"
            )


def _labelled(jets: ak.Array, labels: np.ndarray, classes: Sequence[str]) -> ak.Array:
    for index, name in enumerate(classes):
        jets = ak.with_field(jets, (labels == index).astype(np.int8), schema.LABEL_PREFIX + name)
    return jets


def _shards(rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for low in range(0, len(rows), ROWS_PER_SHARD):
        yield f"{low // ROWS_PER_SHARD:05d}", rows[low : low + ROWS_PER_SHARD]
