"""Tokenizers side by side on the same jets: rate, distortion, and the floor each puts under any generator."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import awkward as ak
import numpy as np
from tqdm import tqdm

from eval.distances import location_scale, random_directions, sliced_wasserstein_value
from eval.fidelity import score
from eval.observables import DEFAULT_FIVE, REGISTRY, compute_observables
from genscale.data.batching import HELD_OUT_SEED, JetOrder
from genscale.data.constituents import COLUMNS, constituents
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.files import read_json, write_atomic, write_json
from tokenizer import BinningConfig, Tokenizer
from tokenizer.quality import Residuals, judge

SCHEMA: Final = "genscale tokenizer comparison"
SCHEMA_VERSION: Final = 1
COST_FILE: Final = "cost.json"
N_DIRECTIONS: Final = 200
N_BOOTSTRAP: Final = 30
LEAST_JETS: Final = 100
TRAINING_BUDGETS_S: Final = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 36000)

Observables = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measured:
    """One tokenizer on the common jets.

    Attributes
    ----------
    name : str
        Name of its folder; a tail ``-seedN`` marks a repetition of the same configuration.
    kind : str
        Quantizer, and whether it sees the whole jet.
    codebook_size, parameters : int
        Codes K; learned numbers, codebook included.
    jets_seen, cpu_seconds : int and float, or None
        Cost of training, where it is known (`genscale tokenizer compare` notes it).
    swd, swd_error : float
        Sliced Wasserstein distance (p = 1, standardised on the originals) of the five observables between the
        decoded jets and *the same* jets before, and its standard error by bootstrap over jets. Sampling noise is
        common to both, so this is close to the value for infinitely many jets: what a generator that had learned
        the tokens perfectly would be left with.
    halves : dict
        The same distance between one half of the jets, decoded, and the other half, as a generator's samples are
        scored: value, standard error, same-size reference floor with its spread, significance.
    observables : dict of str to Residuals
        Decoded minus original jet by jet; relative for observables in GeV.
    wasserstein : dict of str to float
        Wasserstein-1 distance per observable between the same jets, in its unit.
    quality : dict
        What `tokenizer.quality.quality` gives: rate, codebook use, distortion per feature.
    """

    name: str
    kind: str
    codebook_size: int
    parameters: int
    jets_seen: int | None
    cpu_seconds: float | None
    swd: float
    swd_error: float
    halves: dict[str, float]
    observables: dict[str, Residuals]
    wasserstein: dict[str, float]
    quality: dict[str, Any]

    @property
    def configuration(self) -> str:
        """Name without the seed."""
        return re.sub(r"-seed\d+$", "", self.name)


@dataclass(frozen=True)
class Choice:
    """The tokenizer to use within a budget.

    Attributes
    ----------
    budget : float
        Bits per particle (log2 K), or CPU seconds of training.
    name : str
        Configuration that is recommended: of those not resolved from the best, the cheapest to train.
    best : str
        Configuration with the least distance.
    swd, swd_error : float
        Of the recommended one: mean over its seeds, and the error by which ties were called.
    tied : list of str
        Others within two standard errors of the best.
    """

    budget: float
    name: str
    best: str
    swd: float
    swd_error: float
    tied: list[str]


@dataclass(frozen=True)
class Comparison:
    """All that was measured, in the order of the tokenizers given.

    Attributes
    ----------
    n_jets : int
    jets : str
        Fingerprint of the jet store.
    seed_spread : float or None
        Standard deviation of `swd` over seeds relative to its mean, pooled over the configurations with
        several; None if there are none.
    """

    n_jets: int
    jets: str
    rows: list[Measured]
    seed_spread: float | None
    by_rate: list[Choice]
    by_training_time: list[Choice]

    def to_dict(self) -> dict[str, Any]:
        """Contents of comparison.json."""
        return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}

    def to_csv(self) -> str:
        """One row per tokenizer."""
        table = [_flat(row) for row in self.rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        return text.getvalue()


def compare_tokenizers(
    tokenizers: Sequence[Path],
    jets: Path,
    out: Path,
    *,
    n_jets: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Comparison:
    """Measure tokenizers on one jet store; write ``comparison.json``, ``.csv``, ``.png`` and ``.md`` into ``out``.

    Parameters
    ----------
    tokenizers : folders, each with a name of its own.
    jets : jet store that none of them was trained on.
    n_jets : use only this many jets, a fixed choice over the whole store; 0 means all.

    Raises
    ------
    InputError
        Two tokenizers with one name, a folder that is none, or too few jets.
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
    from genscale.tokenizer_page import draw, page

    write_json(out / "comparison.json", result.to_dict())
    write_atomic(out / "comparison.csv", result.to_csv())
    draw(result).savefig(out / "comparison.png", dpi=110)
    write_atomic(out / "comparison.md", page(result))
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
    """Sliced Wasserstein distance of decoded jets from the same jets before, and its bootstrap error."""
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
    """Words for quantizer and context, the same for all codebook sizes."""
    if isinstance(coder.config, BinningConfig):
        return f"{coder.config.spacing} bins"
    name = {"vq": "VQ", "residual": "residual VQ", "fsq": "FSQ"}[coder.config.quantizer]
    return name if coder.config.conditional else f"{name}, unconditional"


def seed_spread(rows: Sequence[Measured]) -> float | None:
    """Standard deviation over seeds relative to the mean, pooled over configurations with several seeds."""
    squares, freedom = 0.0, 0
    for group in _groups(rows).values():
        values = np.array([row.swd for row in group])
        squares += float((((values - values.mean()) / values.mean()) ** 2).sum())
        freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else None


def by_rate(rows: Sequence[Measured], spread: float | None) -> list[Choice]:
    """The tokenizer for each number of bits per particle, log2 K, that occurs."""
    sizes = sorted({row.codebook_size for row in rows})
    return [
        _choose(math.log2(size), [row for row in rows if row.codebook_size <= size], spread) for size in sizes
    ]


def by_training_time(rows: Sequence[Measured], spread: float | None) -> list[Choice]:
    """The tokenizer for a training budget in CPU seconds, wherever more time leads to another choice."""
    choices: list[Choice] = []
    for limit in TRAINING_BUDGETS_S:
        within = [row for row in rows if row.cpu_seconds is not None and row.cpu_seconds <= limit]
        if within:
            choice = _choose(float(limit), within, spread)
            if not choices or choice.name != choices[-1].name:
                choices.append(choice)
    return choices


def _choose(budget: float, rows: Sequence[Measured], spread: float | None) -> Choice:
    """The cheapest of those that are not resolved from the best."""
    value: dict[str, float] = {}
    error: dict[str, float] = {}
    cost: dict[str, tuple[float, float]] = {}
    for name, group in _groups(rows).items():
        value[name] = float(np.mean([row.swd for row in group]))
        jets = float(np.mean([row.swd_error for row in group]))
        error[name] = math.hypot(jets, (spread or 0.0) * value[name] / math.sqrt(len(group)))
        seconds = [row.cpu_seconds for row in group if row.cpu_seconds is not None]
        cost[name] = (float(np.mean(seconds)) if seconds else math.inf, group[0].codebook_size)
    best = min(value, key=lambda name: value[name])
    near = [n for n in value if value[n] - value[best] <= 2 * math.hypot(error[n], error[best])]
    name = min(near, key=lambda n: (*cost[n], value[n]))
    tied = sorted((n for n in near if n != name), key=lambda n: value[n])
    return Choice(budget, name, best, value[name], error[name], tied)


def _groups(rows: Sequence[Measured]) -> dict[str, list[Measured]]:
    groups: dict[str, list[Measured]] = {}
    for row in rows:
        groups.setdefault(row.configuration, []).append(row)
    return groups


def _residuals(name: str, after: np.ndarray, before: np.ndarray) -> Residuals:
    if REGISTRY[name].unit != "GeV":
        return Residuals.of(after - before)
    filled = before > 0
    return Residuals.of(after[filled] / before[filled] - 1)


def _parameters(coder: Tokenizer) -> int:
    learned = sum(parameter.numel() for parameter in coder.model.parameters())
    tables = ("_codebook.embed", ".points")
    return learned + sum(b.numel() for name, b in coder.model.named_buffers() if name.endswith(tables))


def _flat(row: Measured) -> dict[str, Any]:
    q = row.quality
    flat: dict[str, Any] = {
        "name": row.name,
        "kind": row.kind,
        "codebook_size": row.codebook_size,
        "parameters": row.parameters,
        "jets_seen": row.jets_seen,
        "cpu_seconds": row.cpu_seconds,
        "n_jets": q["n_jets"],
        "swd": row.swd,
        "swd_error": row.swd_error,
        **{f"halves_{name}": value for name, value in row.halves.items()},
        **{name: q[name] for name in RATES},
        "codes_used": q["codes_used"],
        "perplexity": q["perplexity"],
    }
    for group, residuals in (("particle", q["particle"]), ("jet", _as_dicts(row.observables))):
        for name, numbers in residuals.items():
            prefix = name if name.startswith("jet_") else f"{group}_{name}"
            flat |= {f"{prefix}_{key}": number for key, number in numbers.items()}
    flat |= {f"w1_{name}": value for name, value in row.wasserstein.items()}
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in flat.items()}


RATES: Final = (
    "nominal_bits_per_particle",
    "nominal_bits_per_jet",
    "bits_per_particle",
    "bits_per_jet",
)


def _as_dicts(residuals: dict[str, Residuals]) -> dict[str, dict[str, float]]:
    return {name: asdict(value) for name, value in residuals.items()}
