"""Scoring one jet store against another: observables from both, distances with their floors, figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.fidelity import FidelityResult, score
from eval.observables import DEFAULT_FIVE, compute_observables
from genscale.data.batching import HELD_OUT_SEED, JetOrder
from genscale.data.constituents import COLUMNS, constituents
from genscale.data.store import JetStore
from genscale.files import write_atomic

Observables = dict[str, np.ndarray]


def store_observables(path: Path, n_jets: int = 0) -> Observables:
    """Observables of a jet store from its massless particles.

    Parameters
    ----------
    n_jets : int
        Use only this many jets, a fixed choice over the whole store; 0 means all.
    """
    store = JetStore.open(path)
    wanted = min(n_jets or len(store), len(store))
    rows = np.sort(JetOrder(len(store), wanted, HELD_OUT_SEED)[0:wanted])
    return compute_observables(constituents(store.read(rows, columns=COLUMNS)), DEFAULT_FIVE)


def evaluate_stores(
    generated: Path,
    reference: Path,
    out: Path,
    *,
    tokenizer_floor: Path | None = None,
    n_jets: int = 0,
    n_directions: int = 200,
    seed: int = 0,
    figures: Path | None = None,
) -> FidelityResult:
    """Score generated jets against reference jets and write ``fidelity.json``.

    Parameters
    ----------
    tokenizer_floor : Path, optional
        Store of jets that were only encoded and decoded.
    n_jets : int
        At most this many jets of each store; 0 means all.
    figures : Path, optional
        Folder for the ratio plots.
    """
    made, real = store_observables(generated, n_jets), store_observables(reference, n_jets)
    decoded = None if tokenizer_floor is None else store_observables(tokenizer_floor, n_jets)
    result = score(made, real, decoded, n_directions=n_directions, seed=seed)
    if figures is not None:
        from eval.plots import ratio_plots

        figures.mkdir(parents=True, exist_ok=True)
        ratio_plots(made, real, decoded).savefig(figures / "observables.png", dpi=100)
    write_atomic(out, result.to_json())
    return result
