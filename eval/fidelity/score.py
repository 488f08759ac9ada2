"""The score of a sample: its distances from the reference, warnings, and fidelity.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import awkward as ak
import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError
from eval.common.results import Unavailable, plain
from eval.fidelity.distances import (
    Distance,
    Order,
    effective_size,
    location_scale,
    random_directions,
    sliced_wasserstein,
    sliced_wasserstein_value,
)
from eval.fidelity.floors import RESOLVED_AT, Floor, reference_floor
from eval.fidelity.result import JOINT, Row, Score, TokenizerFloor
from eval.fidelity.two_sample import TwoSampleTest
from eval.fidelity.warnings import sample_warnings
from eval.jets.observables import DEFAULT_FIVE, REGISTRY, compute_observables

FloatArray = NDArray[np.float64]
Sample: TypeAlias = "ak.Array | Mapping[str, ArrayLike]"

SCHEMA = "genscale.fidelity"
SCHEMA_VERSION = 3

#: Version 1 had the joint distance and the observables only. Version 2 had divergences and coverage, too, which are not
#: read any more.
_READABLE_VERSIONS = (1, 2, 3)


@dataclass(frozen=True)
class FidelityResult:
    """Scores of a generated sample against a reference.

    Attributes
    ----------
    joint : Score
        Sliced Wasserstein distance of all joint observables.
    observables : dict of str to Score
        One-dimensional Wasserstein distance of each observable, in its own unit.
    settings : dict
        Everything that would change the numbers: observables, directions, order, repeats, seed.
    n_generated : int
        Generated jets.
    n_reference : int
        Reference jets.
    n_tokenizer : int or None
        Tokenizer-only jets, where they were given.
    warnings : tuple of str
        Reasons why the comparison is weaker than its numbers suggest.
    particles : dict of str to Score
        Distances of the spectra of single particles (`eval.fidelity.particles`).
    published : dict of str to Score
        Frechet and kernel physics distance (`eval.fidelity.published`).
    classifiers : dict of str to TwoSampleTest
        Two-sample tests by classifiers (`eval.fidelity.two_sample`).
    skipped : dict of str to Unavailable
        What was not measured, with what it would need.
    """

    joint: Score
    observables: dict[str, Score]
    settings: dict[str, Any]
    n_generated: int
    n_reference: int
    n_tokenizer: int | None
    warnings: tuple[str, ...]
    particles: dict[str, Score] = field(default_factory=dict)
    published: dict[str, Score] = field(default_factory=dict)
    classifiers: dict[str, TwoSampleTest] = field(default_factory=dict)
    skipped: dict[str, Unavailable] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, Score]:
        """The joint score first, then each observable."""
        return {JOINT: self.joint, **self.observables}

    def rows(self) -> list[Row]:
        """Everything that was measured, one line each."""
        groups = (
            ("joint", {JOINT: self.joint}), ("observable", self.observables), ("particle", self.particles),
            ("published", self.published),
        )  # fmt: skip
        rows = [score.row(group) for group, scores in groups for score in scores.values()]
        return rows + [test.row(name) for name, test in self.classifiers.items()]

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of fidelity.json: plain values, with None for what is not finite."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "n_generated": self.n_generated,
            "n_reference": self.n_reference,
            "n_tokenizer": self.n_tokenizer,
            "settings": plain(self.settings),
            "joint": plain(self.joint),
            "observables": plain(self.observables),
            "particles": plain(self.particles),
            "published": plain(self.published),
            "classifiers": plain(self.classifiers),
            "skipped": plain(self.skipped),
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        """Text of fidelity.json; strict JSON, without NaN or Infinity."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "fidelity.json") -> FidelityResult:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str
        source : str
            Name of the text in error messages.

        Returns
        -------
        FidelityResult

        Raises
        ------
        InputError
            The text is not JSON of this schema and version.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{source}: not valid JSON ({error})") from error
        found = (data.get("schema"), data.get("schema_version")) if isinstance(data, dict) else None
        if found not in [(SCHEMA, version) for version in _READABLE_VERSIONS]:
            raise InputError(f"{source}: expected schema {SCHEMA} version {SCHEMA_VERSION}, found {found}")

        def scores(group: str) -> dict[str, Score]:
            return {name: Score.from_dict(name, entry) for name, entry in data.get(group, {}).items()}

        return cls(
            joint=Score.from_dict(JOINT, data["joint"]),
            observables=scores("observables"),
            settings=data["settings"],
            n_generated=data["n_generated"],
            n_reference=data["n_reference"],
            n_tokenizer=data["n_tokenizer"],
            warnings=tuple(data["warnings"]),
            particles=scores("particles"),
            published=scores("published"),
            classifiers={name: TwoSampleTest(**entry) for name, entry in data.get("classifiers", {}).items()},
            skipped={name: Unavailable(why) for name, why in data.get("skipped", {}).items()},
        )


def score(
    generated: Sample,
    reference: Sample,
    tokenizer_floor: Sample | None = None,
    *,
    observables: Iterable[str] = DEFAULT_FIVE,
    alone: Iterable[str] = (),
    n_directions: int = 200,
    p: Order = 1,
    n_repeats: int = 50,
    seed: int = 0,
    generated_weights: ArrayLike | None = None,
) -> FidelityResult:
    """Score generated jets against reference jets.

    Parameters
    ----------
    generated : ak.Array or mapping
        Jets (see `eval.jets.constituents.Constituents`), or observables that are already computed: name to
        values, shape (J,).
    reference : ak.Array or mapping
        The same for the reference.
    tokenizer_floor : ak.Array or mapping, optional
        Reference-like jets that were only encoded and decoded.
    observables : iterable of str
        Names that go into the joint distance, and are scored one at a time, too.
    alone : iterable of str
        Further names that are scored one at a time only.
    n_directions : int
        Number of directions of the sliced distance.
    p : 1 or 2
        Order of the distances.
    n_repeats : int
        Random splits that measure each floor.
    seed : int
        Of directions and splits.
    generated_weights : array-like of float, shape (J,), optional
        Weights of the generated jets.

    Returns
    -------
    FidelityResult

    Raises
    ------
    InputError
        Observables are missing, lengths are unequal, there are fewer than two jets, or numbers are not finite.
    """
    joint_names = tuple(dict.fromkeys(observables))
    names = tuple(dict.fromkeys((*joint_names, *alone)))
    if not joint_names:
        raise InputError("observables is empty: at least one name is needed, e.g. jet_mass")
    gen = _observables(generated, names, "generated")
    ref = _observables(reference, names, "reference")
    tok = None if tokenizer_floor is None else _observables(tokenizer_floor, names, "tokenizer_floor")
    # Scaled once by the whole reference, so that the parts of its splits live on the same axes as the sample.
    centre, scale = location_scale(_matrix(ref))
    x, y = (_matrix(gen) - centre) / scale, (_matrix(ref) - centre) / scale
    t = None if tok is None else (_matrix(tok) - centre) / scale
    n_effective = len(x) if generated_weights is None else effective_size(generated_weights, len(x))

    def judge(name: str, unit: str, columns: slice, directions: FloatArray, factor: float) -> Score:
        """Score some columns; one column and one direction make the distance of a single observable."""

        def distance(sample: FloatArray, weights: ArrayLike | None = None) -> Distance:
            return sliced_wasserstein(
                sample[:, columns],
                y[:, columns],
                p=p,
                directions=directions,
                x_weights=weights,
                standardise=False,
            ).scaled(factor)

        def floor(size: int) -> Floor:
            return reference_floor(
                y[:, columns],
                size,
                lambda a, b: factor * sliced_wasserstein_value(a, b, directions, p),
                n_repeats,
                seed,
            )

        own = None if t is None else TokenizerFloor.of(distance(t), floor(len(t)))
        return Score(name, unit, distance(x, generated_weights), floor(n_effective), own)

    joint_directions = random_directions(n_directions, len(joint_names), seed)
    joint = judge(JOINT, "reference standard deviations", slice(len(joint_names)), joint_directions, 1.0)
    single = {
        name: judge(
            name,
            REGISTRY[name].unit if name in REGISTRY else "",
            slice(k, k + 1),
            np.ones((1, 1)),
            float(scale[k]),
        )
        for k, name in enumerate(names)
    }
    return FidelityResult(
        joint=joint,
        observables=single,
        settings={
            "joint_observables": list(joint_names),
            "distance": "sliced: (E W_p^p)^(1/p), standardised on the reference; single: W_p",
            "p": p,
            "n_directions": n_directions,
            "n_repeats": n_repeats,
            "resolved_at": RESOLVED_AT,
            "seed": seed,
            "weighted": generated_weights is not None,
        },
        n_generated=len(gen[names[0]]),
        n_reference=len(ref[names[0]]),
        n_tokenizer=None if tok is None else len(tok[names[0]]),
        warnings=tuple(sample_warnings(gen, ref, joint.floor)),
    )


def _matrix(sample: Mapping[str, FloatArray]) -> FloatArray:
    return np.stack(list(sample.values()), axis=1)


def _observables(sample: Sample, names: tuple[str, ...], what: str) -> dict[str, FloatArray]:
    if isinstance(sample, ak.Array):
        values = compute_observables(sample, names, what)
    else:
        missing = [name for name in names if name not in sample]
        if missing:
            found = ", ".join(sample) or "none"
            raise InputError(f"{what}: observable {missing[0]} is missing (found {found})")
        values = {name: np.asarray(sample[name], dtype=np.float64) for name in names}
    lengths = {name: column.shape for name, column in values.items()}
    if len(set(lengths.values())) != 1 or len(next(iter(lengths.values()))) != 1:
        raise InputError(
            f"{what}: observables need one value per jet, all of one length; found shapes {lengths}"
        )
    if len(values[names[0]]) < 2:
        raise InputError(
            f"{what} has {len(values[names[0]])} jets: at least 2 are needed, and about 1000 for a meaningful score"
        )
    for name, column in values.items():
        bad = np.flatnonzero(~np.isfinite(column))
        if bad.size:
            raise InputError(
                f"{what}: {name} is not finite in {bad.size} of {column.size} jets, first in jet {bad[0]}"
            )
    return values
