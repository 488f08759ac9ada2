"""A sample of jets to be scored: a store, or foreign files through the readers, as massless particles."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from eval.jets.constituents import Constituents
from eval.jets.observables import REGISTRY, compute_observables
from genscale.data import constituents as massless
from genscale.data import schema
from genscale.data.convert import find_files, reader_of
from genscale.data.manifest import MANIFEST
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.data.readers.base import Source
from genscale.data.store import JetStore
from genscale.data.subsets import efficiency, plain_ranges
from genscale.errors import InputError
from genscale.files import sha256

_CHARGE = "part_charge"

#: Jets of a foreign file that are read at a time.
_CHUNK_JETS = 20_000

#: With fewer jets not even a floor can be measured.
FEWEST_JETS = 4

#: Classes whose shares differ by more than this make another mixture.
_SAME_SHARE = 0.02


@dataclass(frozen=True)
class Selection:
    """Which jets of all samples are compared.

    Attributes
    ----------
    classes : tuple of str
        Jets of these classes, in samples that have labels; all if empty.
    ranges : dict of str to (low, high)
        Jets with low <= value < high of these observables of `eval.jets.observables`, which are computed from the
        particles, and so in the same way for all samples.
    """

    classes: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.ranges:
            if name not in REGISTRY:
                near = difflib.get_close_matches(name, REGISTRY, n=1)
                raise InputError(
                    f"--range {name}: known observables are {', '.join(REGISTRY)}"
                    + (f"; nearest is {near[0]}" if near else "")
                )

    def __bool__(self) -> bool:
        return bool(self.classes or self.ranges)


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
    n_before : int
        Jets, of the selected classes, before the cut on ranges.
    """

    name: str
    path: Path
    particles: ak.Array
    n_available: int
    identity: str
    shares: dict[str, float]
    n_before: int

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def constituents(self) -> Constituents:
        """The particles as `eval` takes them."""
        return Constituents(self.particles, self.name)

    @property
    def efficiency(self) -> tuple[float, float]:
        """Share of the jets that pass the cut on ranges, and its binomial error."""
        return efficiency(len(self), self.n_before)

    @property
    def has_charge(self) -> bool:
        """Whether particles have their electric charge."""
        return "charge" in ak.fields(self.particles)


def load_samples(
    generated: Path,
    reference: Path,
    tokenizer: Path | None,
    n_jets: int = 0,
    selection: Selection | None = None,
) -> list[Sample]:
    """Read both sides of a comparison, and the tokenizer-only jets where they are given; see `load_sample`.

    Parameters
    ----------
    generated : Path
    reference : Path
    tokenizer : Path or None
        Jets that were only encoded and decoded.
    n_jets : int
        Use only this many of each, a fixed choice over all of them; 0 means all.
    selection : Selection, optional
        What is compared of these jets.

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
    samples = [load_sample(path, name, n_jets, selection) for name, path in paths.items()]
    require_enough(samples)
    return samples


def require_enough(samples: Sequence[Sample]) -> None:
    """Raise InputError for a sample with fewer than FEWEST_JETS jets."""
    for sample in samples:
        if len(sample) < FEWEST_JETS:
            raise InputError(
                f"{sample.path}: {len(sample)} jets; at least {FEWEST_JETS} are needed, 1000 to say much"
            )


def load_sample(path: Path, name: str, n_jets: int = 0, selection: Selection | None = None) -> Sample:
    """Read jets to be scored.

    Parameters
    ----------
    path : Path
        A jet store, or a file, folder or glob in a format of `genscale.data.readers`.
    name : str
        What messages call the sample.
    n_jets : int
        Use only this many, a fixed choice over all of them; 0 means all.
    selection : Selection, optional
        What is used of these jets.

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
        columns = [*massless.COLUMNS, *filter(_optional, store.columns)]
        jets, available, identity = store.read(rows, columns=columns), len(store), store.fingerprint
    else:
        jets, available, identity = _read_files(path, n_jets)
    if selection is not None and selection.classes:
        jets = _of_classes(jets, selection.classes, path, name)
    particles = massless.constituents(jets)
    if "part_charge" in jets.fields:
        particles = ak.with_field(particles, jets["part_charge"], "charge")
    particles = ak.to_packed(particles)
    checked = Constituents(
        particles, str(path)
    )  # raises errors about the jets here, with the name of the file
    n_before = len(particles)
    if selection is not None and selection.ranges:
        mask = np.ones(n_before, dtype=bool)
        for observable, values in compute_observables(checked, selection.ranges).items():
            low, high = selection.ranges[observable]
            mask &= (values >= low) & (values < high)
        particles, jets = ak.to_packed(particles[mask]), jets[mask]
    classes = schema.class_names(jets.fields)
    shares = {c: float(np.mean(jets[schema.LABEL_PREFIX + c])) for c in classes} if len(jets) else {}
    return Sample(name, path, particles, available, identity, shares, n_before)


def selection_report(selection: Selection, samples: Sequence[Sample]) -> dict[str, Any]:
    """What was selected, and the share of each sample that passes, for the settings of a result."""
    shares = {s.name: dict(zip(("value", "standard_error"), s.efficiency, strict=True)) for s in samples}
    return {
        "classes": list(selection.classes), "ranges": plain_ranges(selection.ranges), "efficiency": shares,
    }  # fmt: skip


def selection_lines(report: dict[str, Any]) -> list[str]:
    """The efficiencies in sentences: that of the generated jets beside that of the reference, with its significance."""
    cuts = []
    for name, (low, high) in report["ranges"].items():
        below, above = "" if low is None else f"{low:g} <= ", "" if high is None else f" < {high:g}"
        cuts.append(f"{below}{name}{above}")
    if not cuts:
        return []
    lines = []
    reference = report["efficiency"]["reference"]
    for name, e in report["efficiency"].items():
        line = f"{100 * e['value']:.2f} ± {100 * e['standard_error']:.2f} % of the {name} jets pass {', '.join(cuts)}"
        error = float(np.hypot(e["standard_error"], reference["standard_error"]))
        if name != "reference" and error > 0:
            line += f" ({(e['value'] - reference['value']) / error:+.1f} standard errors from the reference)"
        lines.append(line)
    return lines


def _optional(column: str) -> bool:
    """Whether a column is used where a sample has it."""
    return column == _CHARGE or column.startswith(schema.LABEL_PREFIX)


def _of_classes(jets: ak.Array, classes: Sequence[str], path: Path, name: str) -> ak.Array:
    found = schema.class_names(jets.fields)
    if not found and name != "reference":
        return jets  # a generator of one class writes no labels; sample_pair_warnings cannot tell
    for wanted in classes:
        if wanted not in found:
            raise InputError(f"{path}: no class {wanted} (found {', '.join(found) or 'no labels'})")
    mask = np.any([ak.to_numpy(jets[schema.LABEL_PREFIX + c]) == 1 for c in classes], axis=0)
    return jets[mask]


def sample_pair_warnings(generated: Sample, reference: Sample) -> list[str]:
    """Return warnings that follow from the two samples themselves, before anything is computed."""
    found = []
    if generated.identity == reference.identity:
        found.append(
            f"{generated.path} and {reference.path} hold the same jets: the distances say nothing about a generator"
        )
    if generated.shares and reference.shares:
        different = [
            f"{c} {100 * generated.shares.get(c, 0):.0f} % and {100 * reference.shares.get(c, 0):.0f} %"
            for c in dict.fromkeys([*generated.shares, *reference.shares])
            if abs(generated.shares.get(c, 0) - reference.shares.get(c, 0)) > _SAME_SHARE
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
        shared = [
            c for c in sources[0].columns if _optional(c) and all(c in source.columns for source in sources)
        ]
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
