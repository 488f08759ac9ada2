"""Which of several generators is better: their jets ranked by the distance from one reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from eval.common.results import plain
from eval.fidelity.ranking import Ranking, rank
from eval.jets.observables import DEFAULT_FIVE, compute_observables
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.errors import InputError
from genscale.fidelity.samples import Selection, load_sample, require_enough, selection_report
from genscale.files import write_json


def compare(
    generated: Sequence[Path],
    reference: Path,
    out: Path,
    *,
    n_jets: int = 0,
    selection: Selection | None = None,
    n_directions: int = 200,
    seed: int = 0,
) -> Ranking:
    """Rank several generators by the joint distance of their jets from one reference; write JSON.

    Parameters
    ----------
    generated : sequence of Path
        Jet stores, or files in a format of `genscale.data.readers`. As many jets of each are used as the smallest has.
    reference : Path
        The same for the reference.
    out : Path
        The JSON file.
    n_jets : int
        At most this many jets of each store; 0 means all.
    selection : Selection, optional
        What is compared of these jets.
    n_directions : int
        Number of directions of the sliced distance.
    seed : int
        Seed of the directions.

    Returns
    -------
    Ranking

    Raises
    ------
    InputError
        For files that cannot be read, and for samples with too few jets or the same jets.
    """
    names = _distinct_names(generated)
    samples = [load_sample(path, "generated", n_jets, selection) for path in generated]
    real = load_sample(reference, "reference", n_jets, selection)
    require_enough([*samples, real])
    identities = [sample.identity for sample in (*samples, real)]
    for sample, identity in zip(samples, identities, strict=False):
        if identities.count(identity) > 1:
            raise InputError(f"{sample.path}: holds the same jets as another of the samples")
    fewest = min(map(len, samples))
    tables = []
    for sample in (*samples, real):
        n = len(sample) if sample is real else fewest
        chosen = np.sort(JetOrder(len(sample), n, HELD_OUT_SEED)[0:n])
        values = compute_observables(ak.to_packed(sample.particles[chosen]), DEFAULT_FIVE, str(sample.path))
        tables.append(np.stack([values[name] for name in DEFAULT_FIVE], axis=1))
    found = rank(dict(zip(names, tables[:-1], strict=True)), tables[-1], n_directions=n_directions, seed=seed)
    settings: dict[str, Any] = {
        "observables": list(DEFAULT_FIVE), "n_directions": n_directions, "seed": seed,
        "n_jets": found.n_jets, "n_reference": found.n_reference, "reference": str(reference),
    }  # fmt: skip
    if selection:
        efficiencies = {name: sample.efficiency for name, sample in zip(names, samples, strict=True)}
        settings["selection"] = {**selection_report(selection, [real]), "efficiency_generated": efficiencies}
    differences = [
        {**dataclasses.asdict(d), "significance": d.significance, "verdict": d.verdict}
        for d in found.differences
    ]
    ranked = {name: {"value": v, "standard_error": found.errors[name]} for name, v in found.distances.items()}
    write_json(out, plain({"ranking": ranked, "differences": differences, "settings": settings}))
    return found


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as it takes to tell them apart."""
    for parts in range(1, 1 + max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"{paths[0]}: given twice")
