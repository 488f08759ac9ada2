"""The tagger's inputs: features of a particle, each defined once, flat and without padding.

Seventeen are the full JetClass inputs of the Particle Transformer (Qu, Li and Qian, arXiv:2202.03772), with
the names, compression, standardisation and clipping of its published data configuration for the weaver
framework (``JetClass_full.yaml``: ``(x - center) * scale``, clipped where a centre is given). The other four
are the four-momentum in units of 100 GeV. That these 21 are the "21 features" of Vigl et al.
(arXiv:2602.15781) is an assumption, because the paper does not list them. Uslu et al. (arXiv:2606.19781) do not list
theirs either; "uslu9" is a choice of this project. So is "sig21": the 21 with signed significances of displacement,
compressed by asinh, in place of tanh of the displacements in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.columns import from_awkward
from genscale.errors import InputError, nearest

#: Four-momentum components are given in units of this many GeV, of the order of a leading particle's energy.
FOUR_MOMENTUM_UNIT_GEV: Final = 100.0

#: weaver clips what it standardises to this range.
_CLIP: Final = (-5.0, 5.0)

#: Momenta and energies below this (a particle at rest in a generated jet) count as this much, so that their
#: logarithm is finite; detectors see nothing below 0.1 GeV.
_LEAST_GEV: Final = np.float32(1e-6)

#: Particles whose features are computed together: so many stay in a processor's cache, which halves the time.
_BLOCK: Final = 8192

#: What a formula sees: a flat column by name; per-jet columns are repeated for each particle.
Columns = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Feature:
    """One input: the columns it needs and ``clip((formula - center) * scale)``, dimensionless."""

    name: str
    meaning: str
    needs: tuple[str, ...]
    formula: Callable[[Columns], np.ndarray]
    center: float = 0.0
    scale: float = 1.0
    clip: tuple[float, float] | None = None

    def __call__(self, column: Columns) -> np.ndarray:
        """Standardised values, [n_particles]."""
        values = self.formula(column)
        if self.center:
            values = values - np.float32(self.center)
        if self.scale != 1.0:
            values = values * np.float32(self.scale)
        return values if self.clip is None else np.clip(values, *self.clip)


def _pt(column: Columns) -> np.ndarray:
    return _least(np.hypot(column("part_px"), column("part_py")))


def _least(values_gev: np.ndarray) -> np.ndarray:
    return np.maximum(values_gev, _LEAST_GEV)


def _plain(column: str, meaning: str) -> Feature:
    return Feature(column, meaning, (column,), lambda get: get(column))


def _momentum(column: str, meaning: str) -> Feature:
    return Feature(column, meaning, (column,), lambda get: get(column), scale=1 / FOUR_MOMENTUM_UNIT_GEV)


def _compressed(name: str, column: str, meaning: str) -> Feature:
    return Feature(name, meaning, (column,), lambda get: np.tanh(get(column)))


def _error(column: str, meaning: str) -> Feature:
    return Feature(column, meaning, (column,), lambda get: get(column), clip=(0.0, 1.0))


def _significance(name: str, value: str, error: str, meaning: str) -> Feature:
    def formula(get: Columns) -> np.ndarray:
        values, errors = get(value), get(error)
        ratio = np.divide(values, errors, out=np.zeros_like(values), where=errors > 0)
        return np.arcsinh(ratio)

    return Feature(name, meaning, (value, error), formula)


_PXY = ("part_px", "part_py")

_ALL = (
    _momentum("part_energy", "energy / 100 GeV"),
    _momentum("part_px", "px / 100 GeV"),
    _momentum("part_py", "py / 100 GeV"),
    _momentum("part_pz", "pz / 100 GeV"),
    Feature("part_pt_log", "ln(pT / GeV)", _PXY, lambda get: np.log(_pt(get)), 1.7, 0.7, _CLIP),
    Feature(
        "part_e_log",
        "ln(E / GeV)",
        ("part_energy",),
        lambda get: np.log(_least(get("part_energy"))),
        2.0,
        0.7,
        _CLIP,
    ),
    Feature(
        "part_logptrel",
        "ln(pT / jet pT)",
        (*_PXY, "jet_pt"),
        lambda get: np.log(_pt(get) / _least(get("jet_pt"))),
        -4.7,
        0.7,
        _CLIP,
    ),
    Feature(
        "part_logerel",
        "ln(E / jet E)",
        ("part_energy", "jet_energy"),
        lambda get: np.log(_least(get("part_energy")) / _least(get("jet_energy"))),
        -4.7,
        0.7,
        _CLIP,
    ),
    Feature(
        "part_deltaR",
        "distance from the jet axis in (eta, phi)",
        ("part_deta", "part_dphi"),
        lambda get: np.hypot(get("part_deta"), get("part_dphi")),
        0.2,
        4.0,
        _CLIP,
    ),
    _plain("part_charge", "electric charge in units of e"),
    _plain("part_isChargedHadron", "1 for a charged hadron, else 0"),
    _plain("part_isNeutralHadron", "1 for a neutral hadron, else 0"),
    _plain("part_isPhoton", "1 for a photon, else 0"),
    _plain("part_isElectron", "1 for an electron, else 0"),
    _plain("part_isMuon", "1 for a muon, else 0"),
    _compressed("part_d0", "part_d0val", "tanh of the transverse impact parameter in mm"),
    _error("part_d0err", "its error in mm, clipped to [0, 1]"),
    _compressed("part_dz", "part_dzval", "tanh of the longitudinal impact parameter in mm"),
    _error("part_dzerr", "its error in mm, clipped to [0, 1]"),
    _plain("part_deta", "pseudorapidity from the jet axis"),
    _plain("part_dphi", "azimuth from the jet axis in radians"),
    _significance(
        "part_d0sig",
        "part_d0val",
        "part_d0err",
        "asinh of d0 in units of its error; 0 where there is no error",
    ),
    _significance(
        "part_dzsig",
        "part_dzval",
        "part_dzerr",
        "asinh of dz in units of its error; 0 where there is no error",
    ),
)

#: Every feature by name: the full set in its order, then the significances.
FEATURES: Final[dict[str, Feature]] = {feature.name: feature for feature in _ALL}

_KINDS = schema.IDENTITY[1:]
_FULL = tuple(FEATURES)[:21]
_SIGNIFICANCE_OF = {"part_d0": "part_d0sig", "part_dz": "part_dzsig"}

#: Named sets for configurations.
FEATURE_SETS: Final[dict[str, tuple[str, ...]]] = {
    "kinematic3": ("part_pt_log", "part_deta", "part_dphi"),
    "kinematic4": ("part_pt_log", "part_e_log", "part_deta", "part_dphi"),
    "uslu9": ("part_pt_log", "part_deta", "part_dphi", "part_charge", *_KINDS),
    "part17": _FULL[4:],
    "full21": _FULL,
    "sig21": tuple(_SIGNIFICANCE_OF.get(name, name) for name in _FULL),
}


def resolve_features(names: str | Sequence[str]) -> tuple[str, ...]:
    """Feature names of a set ("full21") or a list; InputError with the nearest known name otherwise."""
    if isinstance(names, str):
        if names in FEATURE_SETS:
            return FEATURE_SETS[names]
        names = (names,)
    if not names:
        raise InputError(f"no features given: name some, or a set ({', '.join(FEATURE_SETS)})")
    for name in names:
        if name not in FEATURES:
            hint = nearest(name, [*FEATURES, *FEATURE_SETS]) or f"; known: {', '.join(FEATURES)}"
            raise InputError(f"feature {name!r} is not known{hint}")
    return tuple(names)


def needed_columns(names: str | Sequence[str]) -> tuple[str, ...]:
    """Store columns that the features are made of, in schema order: read these and no others."""
    needed = {column for name in resolve_features(names) for column in FEATURES[name].needs}
    return tuple(column for column in schema.COLUMNS if column in needed)


def require_columns(names: Sequence[str], columns: Sequence[str], where: str) -> None:
    """Raise InputError if a feature needs a column that the jets of ``where`` do not have."""
    for name in names:
        for column in FEATURES[name].needs:
            if column not in columns:
                hint = "; generated jets have kinematics only: use the set kinematic3" * (
                    column in schema.DISPLACEMENTS + schema.IDENTITY
                )
                raise InputError(
                    f"{where}: feature {name} needs column {column} (found {', '.join(columns)}){hint}"
                )


def particle_features(
    jets: ak.Array, names: str | Sequence[str] = "full21", max_particles: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the features of all particles of all jets, one jet after another, without padding.

    Parameters
    ----------
    jets : ak.Array
        Rows of a jet store with at least the columns `needed_columns(names)`, particles in order of decreasing pT.
    names : str or sequence of str
        Names of features, or of one of `FEATURE_SETS`.
    max_particles : int, optional
        Keep this many leading particles of each jet; by default all.

    Returns
    -------
    features : array of float32, shape (n_particles, n_features)
    counts : array of int64, shape (n_jets,)
        Number of particles of each jet.

    Raises
    ------
    InputError
        A feature is unknown (the message gives the nearest one), or the jets lack its column.
    """
    names = resolve_features(names)
    require_columns(names, jets.fields, "jets")
    if max_particles is not None and max_particles < 1:
        raise InputError(f"max_particles={max_particles}: at least 1")
    wanted = needed_columns(names)
    columns = from_awkward(jets[list(wanted)])
    particles = next(columns[name] for name in wanted if name in schema.PARTICLE_COLUMNS)
    counts = particles.counts().astype(np.int64)
    keep: np.ndarray | None = None
    if max_particles is not None and len(counts) and counts.max() > max_particles:
        position = np.arange(len(particles.content)) - np.repeat(particles.bounds[:-1], counts)
        keep = position < max_particles
        counts = np.minimum(counts, max_particles)
    flat: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        content = values.content.astype(np.float32, copy=False)
        if values.offsets is None:
            flat[name] = np.repeat(content, counts)
        else:
            flat[name] = content if keep is None else content[keep]
    features = np.empty((int(counts.sum()), len(names)), dtype=np.float32)
    for low in range(0, len(features), _BLOCK):
        block = slice(low, low + _BLOCK)
        columns_of_block = {name: values[block] for name, values in flat.items()}
        for place, name in enumerate(names):
            features[block, place] = FEATURES[name](columns_of_block.__getitem__)
    return features, counts
