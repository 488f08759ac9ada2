"""Results of a comparison of tokenizers, and the tokenizer to use within a budget."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from tokenizer.quality import Residuals

SCHEMA: Final = "genscale tokenizer comparison"
SCHEMA_VERSION: Final = 1
TRAINING_BUDGETS_S: Final = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 36000)


@dataclass(frozen=True)
class Measured:
    """One tokenizer on the common jets.

    Attributes
    ----------
    name : str
        Name of its folder; a tail ``-seedN`` marks a repetition of the same configuration.
    kind : str
        Quantizer, and whether it sees the whole jet.
    codebook_size : int
        Number of codes K.
    parameters : int
        Number of learned numbers, including the codebook.
    jets_seen : int or None
        Jets seen in training, if known (`genscale tokenizer compare` records them).
    cpu_seconds : float or None
        CPU seconds of the training, if known.
    swd : float
        Sliced Wasserstein distance (p = 1, standardised on the originals) of the five observables between the decoded
        jets and *the same* jets before encoding. Sampling noise is common to both, so that this is close to the value
        for infinitely many jets: the distance that remains for a generator that has learned the tokens perfectly.
    swd_error : float
        Standard error of `swd`, by bootstrap over jets.
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
    swd : float
        Distance of the recommended configuration, averaged over its seeds.
    swd_error : float
        The error that decided on ties.
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
    """Measurements of several tokenizers, in the order in which they were given.

    Attributes
    ----------
    n_jets : int
        Number of jets.
    jets : str
        Fingerprint of the jet store.
    rows : list of Measured
        One measurement per tokenizer.
    seed_spread : float or None
        Standard deviation of `swd` over seeds relative to its mean, pooled over the configurations with several seeds;
        None if there are none.
    by_rate : list of Choice
        The tokenizer to use for each rate.
    by_training_time : list of Choice
        The tokenizer to use for each training time.
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

    def table(self) -> list[dict[str, Any]]:
        """One row per tokenizer, for a table (CSV)."""
        return [_flat(row) for row in self.rows]


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
