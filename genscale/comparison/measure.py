"""Measurement of several tokenizers on the same jets: rate, distortion, and the floor of generators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import awkward as ak
import numpy as np
from tqdm import tqdm

from eval.fidelity.distances import location_scale, random_directions, sliced_wasserstein_value
from eval.fidelity.score import score
from eval.jets.observables import DEFAULT_FIVE, REGISTRY, compute_observables
from genscale.comparison.page import write_comparison
from genscale.comparison.result import Comparison, Measured, by_rate, by_training_time, seed_spread
from genscale.data.constituents import COLUMNS, constituents
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.files import read_json
from genscale.training.tokenizer import COST_FILE
from tokenizer import BinningConfig, Tokenizer
from tokenizer.quality import Residuals, judge

N_DIRECTIONS: Final = 200
N_BOOTSTRAP: Final = 30
LEAST_JETS: Final = 100

Observables = dict[str, np.ndarray]


def compare_tokenizers(
    tokenizers: Sequence[Path],
    jets: Path,
    out: Path,
    *,
    n_jets: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Comparison:
    """Measure tokenizers on one jet store; write ``comparison.json``, ``.csv``, ``.png`` and ``.html`` into ``out``.

    Parameters
    ----------
    tokenizers : sequence of Path
        Folders of tokenizers, with different names.
    jets : Path
        Jet store on which none of them was trained.
    out : Path
        Folder of the results.
    n_jets : int
        Use only this many jets, a fixed choice from the whole store; 0 means all.
    device : str
        Device on which the networks run.
    progress : bool
        Show progress bars.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        Two tokenizers have the same name, a folder holds no tokenizer, or there are too few jets.
    """
    names = [folder.resolve().name for folder in tokenizers]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{name}: two tokenizers have this name; comparisons tell them apart by folder name"
            )
    loaded = [Tokenizer.load(folder) for folder in tokenizers]
    store = JetStore.open(jets)
    wanted = min(n_jets or len(store), len(store))
    if wanted < LEAST_JETS:
        raise InputError(f"{jets}: {wanted} jets are too few to compare tokenizers; at least {LEAST_JETS}")
    rows = JetOrder(len(store), wanted, HELD_OUT_SEED)[0:wanted]  # shuffled, so that halves are alike
    particles = constituents(store.read(rows, columns=COLUMNS))
    before = compute_observables(particles, DEFAULT_FIVE)
    measured = [
        _measure(folder, coder, particles, before, device)
        for folder, coder in zip(
            tqdm(tokenizers, desc="measure", unit="tokenizer", disable=not progress), loaded, strict=True
        )
    ]
    spread = seed_spread(measured)
    result = Comparison(
        wanted,
        store.fingerprint,
        measured,
        spread,
        by_rate(measured, spread),
        by_training_time(measured, spread),
    )
    write_comparison(result, out)
    return result


def _measure(
    folder: Path, coder: Tokenizer, particles: ak.Array, before: Observables, device: str
) -> Measured:
    tokens = coder.encode(particles, device=device)
    decoded = coder.decode(tokens, device=device, sort=False)
    found = judge(coder, particles, tokens, decoded)
    after = compute_observables(decoded, DEFAULT_FIVE, "decoded")
    swd, swd_error = same_jets_distance(after, before)
    half = len(particles) // 2
    joint = score(
        {name: values[:half] for name, values in after.items()},
        {name: values[half:] for name, values in before.items()},
        n_directions=N_DIRECTIONS,
    ).joint
    cost = read_json(folder / COST_FILE) if (folder / COST_FILE).exists() else {}
    return Measured(
        name=folder.resolve().name,
        kind=kind_of(coder),
        codebook_size=coder.config.codebook_size,
        parameters=_parameters(coder),
        jets_seen=cost.get("jets_seen"),
        cpu_seconds=cost.get("cpu_seconds"),
        swd=swd,
        swd_error=swd_error,
        halves={
            "n_decoded": half,
            "n_reference": len(particles) - half,
            "value": joint.distance.value,
            "standard_error": joint.distance.standard_error,
            "floor": joint.floor.mean,
            "floor_spread": joint.floor.spread,
            "significance": joint.significance,
        },
        observables={name: _residuals(name, after[name], before[name]) for name in DEFAULT_FIVE},
        wasserstein={
            name: float(np.abs(np.sort(after[name]) - np.sort(before[name])).mean()) for name in DEFAULT_FIVE
        },
        quality=found.as_dict(),
    )


def same_jets_distance(after: Observables, before: Observables) -> tuple[float, float]:
    """Return the sliced Wasserstein distance of decoded jets from the original jets, and its bootstrap error."""
    x, y = (np.stack(list(sample.values()), axis=1) for sample in (after, before))
    centre, scale = location_scale(y)
    x, y = (x - centre) / scale, (y - centre) / scale
    directions = random_directions(N_DIRECTIONS, x.shape[1], 0)
    rng = np.random.default_rng(0)
    again = []
    for _ in range(N_BOOTSTRAP):
        drawn = rng.integers(len(x), size=len(x))
        again.append(sliced_wasserstein_value(x[drawn], y[drawn], directions))
    return sliced_wasserstein_value(x, y, directions), float(np.std(again, ddof=1))


def kind_of(coder: Tokenizer) -> str:
    """Return quantizer and context in words, which do not depend on the size of the codebook."""
    if isinstance(coder.config, BinningConfig):
        return f"{coder.config.spacing} bins"
    name = {"vq": "VQ", "residual": "residual VQ", "fsq": "FSQ"}[coder.config.quantizer]
    name += "" if coder.config.conditional else ", unconditional"
    return name if coder.config.pt_weight_power else f"{name}, all particles alike"


def _residuals(name: str, after: np.ndarray, before: np.ndarray) -> Residuals:
    if REGISTRY[name].unit != "GeV":
        return Residuals.of(after - before)
    filled = before > 0
    return Residuals.of(after[filled] / before[filled] - 1)


def _parameters(coder: Tokenizer) -> int:
    learned = sum(parameter.numel() for parameter in coder.model.parameters())
    tables = ("_codebook.embed", ".points")
    return learned + sum(b.numel() for name, b in coder.model.named_buffers() if name.endswith(tables))
