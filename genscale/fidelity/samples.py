"""A sample of jets to be scored: a store, or foreign files through the readers, as massless particles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np

from eval.jets.constituents import Constituents
from genscale.data import constituents as massless
from genscale.data.convert import find_files, reader_of
from genscale.data.manifest import MANIFEST
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.data.readers.base import Source
from genscale.data.schema import CLASSES, LABELS
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.files import sha256

#: Columns that are used where a sample has them.
_OPTIONAL = ("part_charge", *LABELS)

#: Jets of a foreign file that are read at a time.
_CHUNK_JETS = 20_000

#: With fewer jets not even a floor can be measured.
FEWEST_JETS = 4

#: Classes whose shares differ by more than this make another mixture.
_SAME_SHARE = 0.02


@dataclass(frozen=True)
class Sample:
    """Jets of one side of a comparison.

    Attributes
    ----------
    name : "generated", "reference" or "tokenizer"
        What messages call it.
    path : Path
        Where the jets come from.
    particles : ak.Array
        Ragged records ``pt`` (GeV), ``eta_rel``, ``phi_rel``, and ``charge`` where it is known.
    n_available : int
        Jets at the path; `particles` may hold fewer.
    identity : str
        Equal for equal content.
    shares : dict of str to float
        Share of jets of each class; empty where classes are not known.
    """

    name: str
    path: Path
    particles: ak.Array
    n_available: int
    identity: str
    shares: dict[str, float]

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def constituents(self) -> Constituents:
        """The particles as `eval` takes them."""
        return Constituents(self.particles, self.name)

    @property
    def has_charge(self) -> bool:
        """Whether particles have their electric charge."""
        return "charge" in ak.fields(self.particles)


def load_samples(generated: Path, reference: Path, tokenizer: Path | None, n_jets: int = 0) -> list[Sample]:
    """Read both sides of a comparison, and the tokenizer-only jets where they are given; see `load_sample`.

    Parameters
    ----------
    generated : Path
    reference : Path
    tokenizer : Path or None
        Jets that were only encoded and decoded.
    n_jets : int
        Use only this many of each, a fixed choice over all of them; 0 means all.

    Returns
    -------
    list of Sample

    Raises
    ------
    InputError
        As `load_sample`, and for fewer than FEWEST_JETS jets.
    """
    paths = {"generated": generated, "reference": reference}
    if tokenizer is not None:
        paths["tokenizer"] = tokenizer
    samples = [load_sample(path, name, n_jets) for name, path in paths.items()]
    for sample in samples:
        if len(sample) < FEWEST_JETS:
            raise InputError(
                f"{sample.path}: {len(sample)} jets; at least {FEWEST_JETS} are needed, 1000 to say much"
            )
    return samples


def load_sample(path: Path, name: str, n_jets: int = 0) -> Sample:
    """Read jets to be scored.

    Parameters
    ----------
    path : Path
        A jet store, or a file, folder or glob in a format of `genscale.data.readers`.
    name : str
        What messages call the sample.
    n_jets : int
        Use only this many, a fixed choice over all of them; 0 means all.

    Returns
    -------
    Sample

    Raises
    ------
    InputError
        The path is neither a store nor a known file, values are not finite, or a pT is not positive; the message names
        the file.
    """
    if (path / MANIFEST).is_file() or (path.is_dir() and not any(path.iterdir())):
        store = JetStore.open(path)
        rows = _chosen(len(store), n_jets, path)
        columns = [*massless.COLUMNS, *(c for c in _OPTIONAL if c in store.columns)]
        jets, available, identity = store.read(rows, columns=columns), len(store), store.fingerprint
    else:
        jets, available, identity = _read_files(path, n_jets)
    particles = massless.constituents(jets)
    if "part_charge" in jets.fields:
        particles = ak.with_field(particles, jets["part_charge"], "charge")
    particles = ak.to_packed(particles)
    Constituents(particles, str(path))  # raises errors about the jets here, with the name of the file
    shares = {}
    if LABELS[0] in jets.fields:
        shares = {c: float(np.mean(jets[f"label_{c}"])) for c in CLASSES}
    return Sample(name, path, particles, available, identity, shares)


def sample_pair_warnings(generated: Sample, reference: Sample) -> list[str]:
    """Return warnings that follow from the two samples themselves, before anything is computed."""
    found = []
    if generated.identity == reference.identity:
        found.append(
            f"{generated.path} and {reference.path} hold the same jets: the distances say nothing about a generator"
        )
    if generated.shares and reference.shares:
        different = [
            f"{c} {100 * generated.shares[c]:.0f} % and {100 * reference.shares[c]:.0f} %"
            for c in CLASSES
            if abs(generated.shares[c] - reference.shares[c]) > _SAME_SHARE
        ]
        if different:
            found.append(
                f"the shares of the classes differ ({', '.join(different)}), which the distances measure, too"
            )
    return found


def _chosen(n_available: int, n_jets: int, path: Path) -> np.ndarray:
    if not n_available:
        raise InputError(f"{path}: no jets in it")
    wanted = min(n_jets or n_available, n_available)
    return np.sort(JetOrder(n_available, wanted, HELD_OUT_SEED)[0:wanted])


def _read_files(path: Path, n_jets: int) -> tuple[ak.Array, int, str]:
    files = find_files([path])
    sources = [reader_of(file).open(file) for file in files]
    try:
        sizes = [source.rows for source in sources]
        rows = _chosen(sum(sizes), n_jets, path)
        shared = [c for c in _OPTIONAL if all(c in source.columns for source in sources)]
        parts: list[ak.Array] = []
        first = 0
        for file, source, size in zip(files, sources, sizes, strict=True):
            if missing := [c for c in massless.COLUMNS if c not in source.columns]:
                raise InputError(f"{file}: column {missing[0]} is missing")
            mine = rows[(rows >= first) & (rows < first + size)] - first
            first += size
            parts += _picked(source, mine, size, [*massless.COLUMNS, *shared])
    finally:
        for source in sources:
            source.close()
    return ak.concatenate(parts), sum(sizes), " ".join(sha256(file) for file in files)


def _picked(source: Source, rows: np.ndarray, size: int, columns: Sequence[str]) -> list[ak.Array]:
    return [
        source.read(start, min(start + _CHUNK_JETS, size))[list(columns)][inside - start]
        for start in range(0, size, _CHUNK_JETS)
        if len(inside := rows[(rows >= start) & (rows < start + _CHUNK_JETS)])
    ]
