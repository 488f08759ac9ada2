"""Write jetclass_layout.root with ROOT itself: JetClass's tree, branch names and types, 24 invented jets.

uproot cannot write std::vector branches, which the original files have, so the test file comes from ROOT
(`pip install ROOT`, made with 6.40). Particles are in no order on purpose.
"""

import sys

import numpy as np
import ROOT

FLOATS = ["px", "py", "pz", "energy", "deta", "dphi", "d0val", "d0err", "dzval", "dzerr", "charge"]
KINDS = ["isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon"]
LABELS = {"QCD": "F", "Hbb": "O", "Hcc": "O", "Hgg": "O", "H4q": "O", "Hqql": "O"}
LABELS |= {"Zqq": "I", "Wqq": "I", "Tbqq": "I", "Tbl": "I"}
JET = ["jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_nparticles", "jet_sdmass"]
JET += [f"jet_tau{n}" for n in (1, 2, 3, 4)]
JET += ["aux_genpart_eta", "aux_genpart_phi", "aux_genpart_pid", "aux_genpart_pt", "aux_truth_match"]


def main(path: str, n_jets: int = 24, seed: int = 7) -> None:
    rng = np.random.default_rng(seed)
    file = ROOT.TFile(path, "RECREATE", "", 505)
    tree = ROOT.TTree("tree", "tree")
    lists = {f"part_{n}": ROOT.std.vector("float")() for n in FLOATS}
    lists |= {f"part_{n}": ROOT.std.vector("int")() for n in KINDS}
    for name, values in lists.items():
        tree.Branch(name, values)
    numbers = {}
    for name, kind in {**{f"label_{n}": k for n, k in LABELS.items()}, **dict.fromkeys(JET, "F")}.items():
        numbers[name] = np.zeros(1, dtype={"F": "f4", "O": "?", "I": "i4"}[kind])
        tree.Branch(name, numbers[name], f"{name}/{kind}")
    for jet in range(n_jets):
        k = int(rng.integers(1, 7))
        jet_eta, jet_phi = rng.uniform(-2, 2), rng.uniform(-3.1, 3.1)
        pt, deta, dphi = rng.exponential(60, k) + 1, rng.normal(0, 0.2, k), rng.normal(0, 0.2, k)
        eta, phi, kind = jet_eta + deta, jet_phi + dphi, rng.integers(0, 5, k)
        charge = np.where(np.isin(kind, [0, 3, 4]), rng.choice([-1, 1], k), 0)
        track = charge != 0
        particles = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)]
        # JetClass flips the sign of deta for jets of negative eta
        particles += [deta * np.sign(jet_eta), dphi, track * rng.normal(0, 0.1, k), track * 0.02]
        particles += [track * rng.normal(0, 0.1, k), track * 0.03, charge]
        particles += [(kind == number).astype(int) for number in range(len(KINDS))]
        for values, column in zip(lists.values(), particles, strict=True):
            values.clear()
            for value in column.tolist():
                values.push_back(value)
        px, py, _, energy = (float(np.sum(column)) for column in particles[:4])
        row = [np.hypot(px, py), jet_eta, jet_phi, energy, k, 10.5 * jet, 0.3, 0.2, 0.1, 0.05]
        row += [jet_eta, jet_phi, 25, 500, jet % 2]
        for name, value in zip(JET, row, strict=True):
            numbers[name][0] = value
        for number, name in enumerate(LABELS):
            numbers[f"label_{name}"][0] = number == jet % len(LABELS)
        tree.Fill()
    tree.Write()
    file.Close()


if __name__ == "__main__":
    main(sys.argv[1])
