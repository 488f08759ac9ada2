"""Warnings that a comparison is weaker than its numbers suggest; each says what would be better."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eval.fidelity.floors import Floor
from eval.fidelity.particles import SPECTRA
from eval.jets.constituents import Constituents
from eval.jets.observables import REGISTRY

FloatArray = NDArray[np.float64]

#: Fewer jets than this resolve only gross differences.
FEW_JETS = 1000

#: A distance in standard deviations that is visible in a ratio plot: it sets how many jets are recommended.
VISIBLE = 0.05

#: Share of one sample outside the range of the other from which different cuts are suspected.
OUTSIDE = 0.01

#: Share of jets that have exactly the largest number of particles, from which a cap on that number is suspected.
CAPPED = 0.01

#: What selections are made on: here a range that does not fit suggests different cuts, elsewhere a poor model.
CUT_ON = ("jet_pt", "jet_mass", "softdrop_mass", "multiplicity", *(name for name, _, _ in SPECTRA))


def sample_warnings(
    generated: Mapping[str, FloatArray], reference: Mapping[str, FloatArray], joint_floor: Floor
) -> list[str]:
    """Look at two samples of observables for what would make their comparison misleading.

    Parameters
    ----------
    generated : mapping of str to ndarray of float
        Observables of generated jets, finite, shape (J,) each.
    reference : mapping of str to ndarray of float
        Observables of reference jets, likewise.
    joint_floor : Floor
        Floor of the joint distance; it sets how many jets would be enough.

    Returns
    -------
    list of str
        One sentence for each.
    """
    found = []
    for name, sample in (("generated", generated), ("reference", reference)):
        n = len(next(iter(sample.values())))
        if n < FEW_JETS:
            needed = int(np.ceil(joint_floor.jets_needed(VISIBLE) / 100) * 100)
            found.append(
                f"{name} has {n} jets: to resolve a joint distance of {VISIBLE}, take {needed} of each"
            )
        if "multiplicity" in sample:
            empty = int(np.count_nonzero(sample["multiplicity"] == 0))
            if empty:
                found.append(
                    f"{name}: {empty} of {n} jets have no constituents; all their observables count as 0"
                )
        for key, values in sample.items():
            if key in REGISTRY:
                low, high = REGISTRY[key].range
                impossible = int(np.count_nonzero((values < low) | (values > high)))
                if impossible:
                    found.append(
                        f"{name}: {key} is impossible (outside {low:g} to {high:g}) in {impossible} jets"
                    )
    if joint_floor.n_generated > joint_floor.n_reference:
        found.append(
            f"the reference has {joint_floor.n_reference} jets, fewer than generated: the floor is "
            f"scaled by {joint_floor.scale:.2f} from smaller splits; a larger reference would be better"
        )
    return found + _ranges(generated, reference)


def particle_warnings(generated: Constituents, reference: Constituents) -> list[str]:
    """Look for different thresholds on particles, and for caps on their number.

    Parameters
    ----------
    generated : Constituents
        One side of the comparison.
    reference : Constituents
        The other.

    Returns
    -------
    list of str
        One sentence for each.
    """
    spectra = [{name: getattr(jets, key) for name, _, key in SPECTRA} for jets in (generated, reference)]
    found = _ranges(*spectra)
    for inner, outer in ((generated, reference), (reference, generated)):
        cap = int(inner.counts.max(initial=0))
        at_cap, beyond = float(np.mean(inner.counts == cap)), float(np.mean(outer.counts > cap))
        if at_cap > CAPPED and beyond > CAPPED:
            found.append(
                f"{inner.name}: {100 * at_cap:.2g} % of the jets have exactly {cap} particles, the most of any; "
                f"{100 * beyond:.2g} % of {outer.name} have more: give both the same cap on particles"
            )
    return found


def _ranges(generated: Mapping[str, FloatArray], reference: Mapping[str, FloatArray]) -> list[str]:
    """Say where one sample reaches beyond the other: one line for each possible cut, one for all the rest."""
    found, beyond = [], []
    pairs = (
        ("generated", generated, "reference", reference),
        ("reference", reference, "generated", generated),
    )
    for inner_name, inner_sample, outer_name, outer_sample in pairs:
        for key, inner in inner_sample.items():
            outer = outer_sample[key]
            if not len(inner) or not len(outer):
                continue
            low, high = outer.min(), outer.max()
            outside = float(np.mean((inner < low) | (inner > high)))
            # By chance a share of about 2 / (m + 1) lies beyond the extremes of m jets.
            if outside <= max(OUTSIDE, 10 / len(outer)):
                continue
            if key in CUT_ON:
                found.append(
                    f"{key}: {100 * outside:.2g} % of {inner_name} lie outside the range {low:.4g} to {high:.4g} "
                    f"of {outer_name}: the samples were cut differently, which makes the comparison meaningless, or "
                    "the generator does not keep to the cut"
                )
            else:
                beyond.append(f"{key} ({100 * outside:.2g} % of {inner_name})")
    if beyond:
        found.append(f"one sample lies outside the range of the other in {', '.join(beyond)}")
    return found
