"""What the benchmarks share: processor time on one core, cases that take turns, and the same random jets."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch

torch.set_num_threads(1)

#: Pieces of work by name.
Cases = Mapping[str, Callable[[], object]]

#: The yardstick is the product of two float32 matrices of this size.
MATRIX, PRODUCTS = 1024, 8
PRODUCT = f"matrix product {MATRIX}^3"
_FACTORS = torch.randn(2, MATRIX, MATRIX)


def parser(documentation: str, repeats: int = 3) -> argparse.ArgumentParser:
    """Options of a benchmark, with its documentation as help."""
    made = argparse.ArgumentParser(
        prog=f"scripts/bench {Path(sys.argv[0]).stem}",
        description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--repeats", type=int, default=repeats, help="times that everything is measured")
    return made


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, which other programs on the machine disturb least."""
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turn(cases: Cases, repeats: int) -> dict[str, np.ndarray]:
    """Processor time of each case, shape (repeats,); cases take turns, so that a busy machine slows all alike."""
    for work in cases.values():
        work()  # the first call loads libraries and allocates memory
    times = [[seconds(work) for work in cases.values()] for _ in range(repeats)]
    return dict(zip(cases, np.array(times).T, strict=True))


def products() -> None:
    """Some matrix products, as a case beside others."""
    for _ in range(PRODUCTS):
        _FACTORS[0] @ _FACTORS[1]


def product_rate(spent: Any = None) -> Any:
    """FLOP per second of the matrix product now, or from the times that `products` spent."""
    return PRODUCTS * 2 * MATRIX**3 / (seconds(products) if spent is None else spent)


def summary(values: Sequence[float] | np.ndarray, digits: int = 0) -> str:
    """Median, least and greatest."""
    return f"{np.median(values):,.{digits}f} ({np.min(values):,.{digits}f} to {np.max(values):,.{digits}f})"


def jet_lengths(n: int, rng: np.random.Generator) -> np.ndarray:
    """Constituents of jets, spread as in JetClass: 45 +- 18."""
    return np.clip(rng.normal(45, 18, n).round(), 2, 128).astype(np.int64)


def random_jets(n: int, seed: int = 0) -> ak.Array:
    """Ragged records ``pt``, ``eta_rel``, ``phi_rel`` of jets with three subjets, in order of decreasing pT."""
    rng = np.random.default_rng(seed)
    lengths = jet_lengths(n, rng)
    jet = np.repeat(np.arange(n), lengths)
    axes = rng.normal(0, 0.2, (n, 3, 2))
    angles = axes[jet, rng.integers(0, 3, jet.size)] + 0.05 * rng.standard_normal((jet.size, 2))
    columns = {
        "pt": 0.5 + rng.exponential(3, jet.size) ** 2,
        "eta_rel": angles[:, 0],
        "phi_rel": angles[:, 1],
    }
    jets = ak.zip({name: ak.unflatten(values, lengths) for name, values in columns.items()})
    return jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)]
