"""A summary of a store: its contents, its origin, and the ranges of its quantities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from genscale.data.store import JetStore, Store

#: Number of rows from which the ranges are computed, so that a summary is quick for a store of any size.
_ROWS_LOOKED_AT = 100_000


def summary(path: Path | str, verify: bool = False) -> dict[str, Any]:
    """Summarise the store at `path`.

    Parameters
    ----------
    path : Path or str
        A jet store or a token store.
    verify : bool
        Also compare the checksum of every shard.

    Returns
    -------
    dict
        JSON values: kind, rows, items, classes, columns, meta, shards, bytes, fingerprint, packages, created, and
        `ranges`: minimum, mean and maximum of each quantity over evenly spaced rows (their number is `ranges_rows`).

    Raises
    ------
    InputError
        There is no complete store at `path`.
    """
    store = Store.open(path, verify=verify)
    manifest = store.manifest
    rows = np.arange(0, len(store), max(1, -(-len(store) // _ROWS_LOOKED_AT)))
    values = _jet_values(store, rows) if manifest.kind == JetStore.KIND else _token_values(store, rows)
    return {
        "path": str(path),
        "kind": manifest.kind,
        "rows": manifest.rows,
        "items": manifest.items,
        "classes": {name: count for name, count in manifest.class_counts.items() if count},
        "columns": manifest.columns,
        "ranges_rows": len(rows),
        "ranges": {name: _range(value) for name, value in values.items() if len(value)},
        "meta": manifest.meta,
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "fingerprint": store.fingerprint,
        "checksums": "verified" if verify else "not verified",
        "packages": manifest.packages,
        "created": manifest.created,
    }


def render(found: dict[str, Any]) -> str:
    """Return the summary as text for a terminal."""
    item = "particles" if found["kind"] == JetStore.KIND else "tokens"
    lines = [
        f"{found['path']}: {found['rows']:,} jets, {found['items']:,} {item}, {found['bytes'] / 1e6:,.1f} MB "
        f"in {found['shards']} shards ({found['checksums']})",
        f"fingerprint  {found['fingerprint']}   written {found['created']}",
        f"packages     {'  '.join(f'{name} {version}' for name, version in found['packages'].items())}",
        "",
        "class        jets",
        *(f"{name:<10} {count:>10,}" for name, count in found["classes"].items()),
        "",
        f"{'quantity':<16} {'least':>12} {'mean':>12} {'most':>12}   ({found['ranges_rows']:,} jets)",
        *(
            f"{name:<16} {r['min']:>12.5g} {r['mean']:>12.5g} {r['max']:>12.5g}"
            for name, r in found["ranges"].items()
        ),
        "",
        "columns      " + _wrapped(f"{name}: {kind}" for name, kind in found["columns"].items()),
        "",
        "settings",
        *(f"  {key}: {_short(value)}" for key, value in found["meta"].items()),
    ]
    return "\n".join(lines)


def _jet_values(store: Store, rows: np.ndarray) -> dict[str, np.ndarray]:
    momentum = ("part_px", "part_py", "part_pz", "part_energy")
    quantities = ("jet_pt", "jet_eta", "jet_energy", "jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3")
    jets = store.read(rows, columns=[*momentum, *(name for name in quantities if name in store.columns)])
    px, py, pz, energy = (
        ak.to_numpy(ak.sum(ak.values_astype(jets[name], "float64"), axis=1)) for name in momentum
    )
    return {
        "jet_pt": ak.to_numpy(jets["jet_pt"]),
        "jet_eta": ak.to_numpy(jets["jet_eta"]),
        # Mass of the particles' summed four-momentum: the jet mass before grooming.
        "mass": np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0)),
        "multiplicity": ak.to_numpy(ak.num(jets["part_px"])),
        **{name: ak.to_numpy(jets[name]) for name in quantities[2:] if name in jets.fields},
    }


def _token_values(store: Store, rows: np.ndarray) -> dict[str, np.ndarray]:
    tokens = store.read(rows, columns=["tokens"])["tokens"]
    return {"tokens per jet": ak.to_numpy(ak.num(tokens)), "token": ak.to_numpy(ak.flatten(tokens))}


def _range(values: np.ndarray) -> dict[str, float]:
    return {
        "min": float(np.nanmin(values)),
        "mean": float(np.nanmean(values, dtype=np.float64)),
        "max": float(np.nanmax(values)),
    }


def _wrapped(words: Any, width: int = 95) -> str:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word + "  "
    return ("\n" + " " * 13).join(line.rstrip() for line in lines)


def _short(value: Any, most: int = 400) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= most else f"{text[:most]} ... ({len(text)} characters)"
