"""Score generated jets against reference jets, with errors and floors, and an observable of your own.

    python examples/score_two_stores.py [GENERATED REFERENCE]

Both are jet stores; without them, the example takes those of the quickstart, which scripts/quickstart makes.
docs/fidelity.md explains which number to trust for what.
"""

import sys
from pathlib import Path

import awkward as ak
import numpy as np

from eval.fidelity.score import score
from eval.jets.observables import compute_observables
from genscale.data.constituents import constituents
from genscale.data.store import JetStore

QUICKSTART = (Path("runs/quickstart/samples/small-s1"), Path("runs/quickstart/jets/test"))


def main(generated: Path = QUICKSTART[0], reference: Path = QUICKSTART[1]) -> None:
    """Print the distance of each observable, and of the joint distribution, with its error and floor."""
    samples = []
    for folder in (generated, reference):
        jets = constituents(JetStore.open(folder).read())  # lists of particles: pt (GeV), eta_rel, phi_rel
        observables = dict(compute_observables(jets))
        # An observable of your own is an array with one number per jet.
        leading = ak.to_numpy(ak.fill_none(ak.max(jets.pt, axis=1), np.nan))
        observables["leading_fraction"] = leading / ak.to_numpy(ak.sum(jets.pt, axis=1))
        samples.append(observables)
    result = score(*samples, alone=["leading_fraction"])
    print(f"{'':18} distance +- error     floor  verdict")
    for name, entry in [("joint", result.joint), *result.observables.items()]:
        distance = entry.distance
        print(
            f"{name:18} {entry.value:8.4f} +- {distance.standard_error:.4f} {entry.floor.mean:8.4f}  {entry.verdict}"
        )
    for warning in result.warnings:
        print("note:", warning)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
