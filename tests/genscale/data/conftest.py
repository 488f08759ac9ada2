"""Jets with consistent kinematics, made from a seed: quick, and different in every row."""

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from genscale.data import schema
from genscale.data.store import JetStore, StoreWriter

MakeJets = Callable[..., ak.Array]


def fake_jets(
    n_jets: int,
    seed: int = 0,
    most_particles: int = 12,
    least_particles: int = 1,
    classes: tuple[str, ...] = schema.CLASSES,
) -> ak.Array:
    rng = np.random.default_rng(seed)
    counts = rng.integers(least_particles, most_particles + 1, n_jets)
    jet = np.repeat(np.arange(n_jets), counts)
    total = len(jet)
    axis_eta, axis_phi = rng.uniform(-2, 2, n_jets), rng.uniform(-3, 3, n_jets)
    pt = rng.exponential(40, total) + 0.5
    pt = pt[np.lexsort((-pt, jet))]
    deta, dphi = rng.normal(0, 0.2, (2, total))
    eta, phi = axis_eta[jet] + deta, axis_phi[jet] + dphi
    kind = rng.integers(0, 5, total)  # charged hadron, neutral hadron, photon, electron, muon
    charged = np.isin(kind, (0, 3, 4))
    particles = {
        "part_px": pt * np.cos(phi),
        "part_py": pt * np.sin(phi),
        "part_pz": pt * np.sinh(eta),
        "part_energy": pt * np.cosh(eta),
        "part_deta": deta,
        "part_dphi": dphi,
        "part_d0val": charged * rng.normal(0, 0.1, total),
        "part_d0err": charged * rng.uniform(0.01, 0.1, total),
        "part_dzval": charged * rng.normal(0, 0.3, total),
        "part_dzerr": charged * rng.uniform(0.01, 0.2, total),
        "part_charge": charged * rng.choice([-1, 1], total),
        **{name: kind == number for number, name in enumerate(schema.IDENTITY[1:])},
    }
    columns = {name: ak.unflatten(values.astype(np.float32), counts) for name, values in particles.items()}
    px, py, energy = (ak.to_numpy(ak.sum(columns[f"part_{c}"], axis=1)) for c in ("px", "py", "energy"))
    label = rng.choice([schema.CLASSES.index(name) for name in classes], n_jets)
    columns |= {
        "jet_pt": np.hypot(px, py),
        "jet_eta": axis_eta,
        "jet_phi": axis_phi,
        "jet_energy": energy,
        "jet_nparticles": counts,
        **{name: rng.uniform(0, 1, n_jets) for name in schema.JET_SUBSTRUCTURE},
        **{name: label == number for number, name in enumerate(schema.LABELS)},
        **{name: rng.normal(0, 1, n_jets) for name in schema.TRUTH},
        "aux_genpart_pid": rng.integers(-25, 26, n_jets),
    }
    return ak.zip(columns, depth_limit=1)


def write_store(path: Path, chunks: list[ak.Array], seed: int = 1) -> JetStore:
    writer = StoreWriter(path, "jets", {"seed": seed})
    for number, chunk in enumerate(chunks):
        writer.write_shard(f"{number:03d}", chunk)
    writer.finish()
    return JetStore.open(path)


def same(left: ak.Array, right: ak.Array) -> bool:
    """Equal fields, lengths, values and types, whatever the layout."""
    return left.fields == right.fields and all(
        ak.array_equal(left[name], right[name], dtype_exact=True) for name in left.fields
    )


@pytest.fixture
def make_jets() -> MakeJets:
    return fake_jets


@pytest.fixture
def make_store() -> Callable[..., JetStore]:
    return write_store


@pytest.fixture
def equal() -> Callable[[ak.Array, ak.Array], bool]:
    return same


@pytest.fixture
def jetclass_file() -> Path:
    """Written by ROOT 6.40 with std::vector branches (`make_jetclass_layout.py`), not by uproot."""
    return Path(__file__).parent / "jetclass_layout.root"
