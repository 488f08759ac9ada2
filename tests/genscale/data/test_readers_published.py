"""The published data sets: files in their layouts, made here, come back as the same jets, with their labels.

Where the original packages are installed (energyflow, pandas with PyTables), they read or write the same files.
"""

import awkward as ak
import h5py
import numpy as np
import pytest

from genscale.data import schema
from genscale.data.convert import convert
from genscale.data.readers import READERS, Options
from genscale.data.readers.rows import PARTICLES
from genscale.data.store import JetStore
from genscale.errors import InputError

N, MOST = 30, 8


def four_momenta(n=N, most=MOST, seed=5, massless=True):
    """Padded (E, px, py, pz) of jets in all directions, of 500 GeV, not sorted; and the numbers of particles."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, most + 1, n)
    axis_eta, axis_phi = rng.uniform(-2, 2, n), rng.uniform(-np.pi, np.pi, n)
    pt = rng.exponential(60, (n, most)) + 40
    eta = axis_eta[:, None] + rng.normal(0, 0.1, (n, most))
    phi = axis_phi[:, None] + rng.normal(0, 0.1, (n, most))
    mass = np.zeros_like(pt) if massless else rng.choice([0, 0.13957], pt.shape)
    real = np.arange(most) < counts[:, None]
    p = np.stack(
        [np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
    )
    return np.where(real, p, 0).transpose(1, 2, 0), counts


def read(path, tmp_path, options=None, **keys):
    convert([path], tmp_path / f"{path.name}.store", progress=False, options=options, **keys)
    return JetStore.open(tmp_path / f"{path.name}.store")


def assert_same(store, p4, rtol=2e-5):
    """The store has these four-momenta, in order of falling pT, with angles relative to the axis of their sum."""
    rows = store.read()
    for jet, expected in zip(rows, p4, strict=True):
        expected = expected[expected[:, 0] > 0]
        expected = expected[np.argsort(-np.hypot(expected[:, 1], expected[:, 2]))]
        found = np.stack([jet.part_energy, jet.part_px, jet.part_py, jet.part_pz], axis=1)
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-3)
        energy, px, py, pz = expected.sum(axis=0)
        assert jet.jet_pt == pytest.approx(np.hypot(px, py), rel=rtol)
        assert jet.jet_energy == pytest.approx(energy, rel=rtol)
        phi = np.arctan2(expected[:, 2], expected[:, 1]) - np.arctan2(py, px)
        np.testing.assert_allclose(jet.part_dphi, np.arctan2(np.sin(phi), np.cos(phi)), atol=2e-5)
        eta = np.arcsinh(expected[:, 3] / np.hypot(expected[:, 1], expected[:, 2]))
        np.testing.assert_allclose(jet.part_deta, eta - np.arcsinh(pz / np.hypot(px, py)), atol=2e-4)


def hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


# -- EnergyFlow -----------------------------------------------------------------------------------------------


def quark_gluon(seed=2):
    """X and y as EnergyFlow has them: pT, rapidity, phi in 0 to 2 pi, PDG code; 1 is a quark."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, MOST + 1, N)
    code = rng.choice([22, 211, -211, 130, 321, -321, 2112, 2212, -2212, 11, -13], (N, MOST))
    pt = rng.exponential(50, (N, MOST)) + 20
    y = rng.uniform(-1.7, 1.7, (N, 1)) + rng.normal(0, 0.1, (N, MOST))
    phi = (rng.uniform(0, 2 * np.pi, (N, 1)) + rng.normal(0, 0.1, (N, MOST))) % (2 * np.pi)
    x = np.where((np.arange(MOST) < counts[:, None])[:, :, None], np.stack([pt, y, phi, code], axis=2), 0.0)
    return x, rng.integers(0, 2, N).astype(float)


def p4_of(x):
    code = np.abs(x[:, :, 3]).astype(int)
    mass = np.vectorize(lambda c: PARTICLES[c][2] if c else 0.0)(code)
    transverse = np.hypot(x[:, :, 0], mass)
    pt, y, phi = np.moveaxis(x[:, :, :3], 2, 0)
    return np.stack(
        [transverse * np.cosh(y), pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(y)], axis=2
    )


def test_energyflow_quarks_and_gluons(tmp_path):
    x, y = quark_gluon()
    np.savez(tmp_path / "QG_jets.npz", X=x, y=y)
    store = read(tmp_path / "QG_jets.npz", tmp_path, rows_per_shard=7)
    assert_same(store, p4_of(x))
    assert store.class_names == ("gluon", "quark")
    assert store.labels().tolist() == y.astype(int).tolist()
    rows = store.read()
    assert ak.max(np.hypot(rows.part_deta, rows.part_dphi)) < 1  # absolute angles go to 2 pi
    kinds = ak.to_numpy(ak.flatten(sum(rows[name] for name in schema.IDENTITY[1:])))
    assert (kinds == 1).all()
    pt = x[:, :, 0]
    hardest = x[np.arange(N), pt.argmax(axis=1), 3]
    assert rows.part_charge[:, 0].to_list() == [PARTICLES[abs(int(c))][0] * np.sign(int(c)) for c in hardest]


def test_energyflow_agrees_about_its_own_jets(tmp_path):
    energyflow = pytest.importorskip("energyflow", reason="energyflow is not installed (extra energyflow)")
    x, y = quark_gluon(seed=8)
    np.savez(tmp_path / "QG_jets.npz", X=x, y=y)
    theirs = energyflow.p4s_from_ptyphipids(np.load(tmp_path / "QG_jets.npz")["X"])
    assert_same(read(tmp_path / "QG_jets.npz", tmp_path), theirs)
    codes = np.array([*PARTICLES, -11, -211])
    charges = [PARTICLES[abs(c)][0] * np.sign(c) for c in codes]
    assert energyflow.pids2chrgs(codes).tolist() == charges
    assert energyflow.pids2ms(codes) == pytest.approx([PARTICLES[abs(c)][2] for c in codes], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda x, y: (x * [1000, 1, 1, 1], y), r"from jet 0.*: pT looks like MeV \(the median jet has"),
     (lambda x, y: (x * [1, 1, 180 / np.pi, 1], y), "looks? like degrees"),
     (lambda x, y: (x[:, :, [0, 1, 3, 2]], y), "is not the PDG code of a particle that reaches a detector"),
     (lambda x, y: (x, y + 1), r"array y must have a 1 \(quark\) or a 0 \(gluon\) for each of 30 jets"),
     (lambda x, y: (x, y[:-1]), "array y must have"),
     (lambda x, y: (np.where(x == x[4, 1, 0], np.nan, x), y), "pT is not finite in 1 jets, first in jet 4")],
)  # fmt: skip
def test_energyflow_mistakes(tmp_path, change, message):
    x, y = change(*quark_gluon())
    np.savez(tmp_path / "q.npz", X=x, y=y)
    with pytest.raises(InputError, match=rf"q\.npz.*{message}"):
        convert([tmp_path / "q.npz"], tmp_path / "store", progress=False)
    assert not list(tmp_path.glob("store*"))


# -- JetNet ---------------------------------------------------------------------------------------------------


def jetnet_arrays(mask=True):
    rng = np.random.default_rng(4)
    real = np.arange(MOST) < rng.integers(2, MOST + 1, N)[:, None]
    relative = np.stack([*rng.normal(0, 0.1, (2, N, MOST)), rng.exponential(1, (N, MOST))], axis=2)
    relative[~real] = 0
    relative[:, :, 2] /= relative[:, :, 2].sum(axis=1, keepdims=True)
    if mask:
        relative = np.concatenate([relative, real[:, :, None]], axis=2)
    jets = np.stack(
        [rng.uniform(800, 1200, N), rng.uniform(-1, 1, N), np.full(N, 80.0), real.sum(axis=1)], axis=1
    )
    return relative, jets


@pytest.mark.parametrize("mask", [True, False])
def test_jetnet_with_and_without_a_mask(tmp_path, mask):
    relative, jets = jetnet_arrays(mask)
    path = hdf5(tmp_path / "made.hdf5", {"particle_features": relative, "jet_features": jets})
    store = read(path, tmp_path)
    rows = store.read()
    pt = -np.sort(-relative[:, :, 2] * jets[:, :1], axis=1)
    for jet, expected in zip(rows, pt, strict=True):
        np.testing.assert_allclose(np.hypot(jet.part_px, jet.part_py), expected[expected > 0], rtol=1e-5)
    assert store.class_names == ()


def test_jetnet_files_are_named_by_class(tmp_path):
    relative, jets = jetnet_arrays()
    for name in ("g", "t150"):
        hdf5(tmp_path / f"{name}.hdf5", {"particle_features": relative, "jet_features": jets})
        jets = jets * [1.01, 1, 1, 1]  # files of equal content are refused
    convert([tmp_path], tmp_path / "store", progress=False)
    store = JetStore.open(tmp_path / "store")
    assert store.class_names == ("g", "q", "t", "w", "z")
    assert store.labels().tolist() == [0] * N + [2] * N


def test_generated_jets_in_jetnet_s_coordinates(tmp_path):
    """MPGAN and its successors write [jets, particles, (eta_rel, phi_rel, pt_rel)] without jet features."""
    relative, _ = jetnet_arrays(mask=False)
    np.save(tmp_path / "made.npy", relative.astype(np.float32))
    with pytest.raises(InputError, match=r"made\.npy: array .* looks like JetNet's .*give --jet-pt"):
        READERS["npy"].open(tmp_path / "made.npy")
    store = read(tmp_path / "made.npy", tmp_path, Options(jet_pt=1000.0, class_name="t"))
    assert store.class_names == ("t",)
    rows = store.read()
    np.testing.assert_allclose(ak.sum(np.hypot(rows.part_px, rows.part_py), axis=1), 1000, rtol=1e-5)
    hardest = relative[np.arange(N), relative[:, :, 2].argmax(axis=1)]
    np.testing.assert_allclose(rows.part_deta[:, 0], hardest[:, 0], atol=1e-6)
    np.testing.assert_allclose(rows.part_dphi[:, 0], hardest[:, 1], atol=1e-6)
    path = hdf5(tmp_path / "named.h5", {"particle_features": relative})
    again = read(path, tmp_path, Options(jet_pt=1000.0)).read()
    np.testing.assert_allclose(again.jet_pt, rows.jet_pt, rtol=1e-6)


def test_jetnet_with_its_columns_in_another_order(tmp_path):
    relative, jets = jetnet_arrays()
    relative = relative[:, :, [2, 0, 3, 1]]
    path = hdf5(tmp_path / "a.h5", {"particle_features": relative, "jet_features": jets})
    with pytest.raises(InputError, match=r"a\.h5.*must be etarel, phirel, ptrel .*the fourth goes from"):
        convert([path], tmp_path / "store", progress=False)


def test_jetnet_agrees_about_its_own_jets(tmp_path, monkeypatch):
    jetnet = pytest.importorskip("jetnet.datasets.jetnet", reason="jetnet is not installed")
    relative, jets = jetnet_arrays()
    relative = np.pad(relative, ((0, 0), (0, 30 - MOST), (0, 0)))
    path = hdf5(tmp_path / "t.hdf5", {"particle_features": relative, "jet_features": jets})
    monkeypatch.setattr(jetnet, "checkDownloadZenodoDataset", lambda *_, **__: path)  # asks Zenodo otherwise
    particles, theirs = jetnet.JetNet.getData("t", str(tmp_path), split="all")  # in another order
    theirs_pt = theirs[:, list(jetnet.JetNet.ALL_JET_FEATURES).index("pt")]
    rows = read(path, tmp_path).read()[np.argsort(jets[:, 0])]
    for jet, expected, jet_pt in zip(rows, particles[np.argsort(theirs_pt)], np.sort(theirs_pt), strict=True):
        real = expected[expected[:, 3] > 0.5]
        real = real[np.argsort(-real[:, 2])]
        np.testing.assert_allclose(jet.part_deta, real[:, 0], atol=1e-6)
        np.testing.assert_allclose(jet.part_dphi, real[:, 1], atol=1e-6)
        np.testing.assert_allclose(np.hypot(jet.part_px, jet.part_py), real[:, 2] * jet_pt, rtol=1e-5)


# -- top-tagging reference ------------------------------------------------------------------------------------


def landscape_columns(p4):
    names = [f"{c}_{i}" for i in range(p4.shape[1]) for c in ("E", "PX", "PY", "PZ")]
    truth = np.tile([700.0, 600.0, 0.0, 300.0], (len(p4), 1))
    return [*names, "truthE", "truthPX", "truthPY", "truthPZ"], np.concatenate(
        [p4.reshape(len(p4), -1), truth], axis=1
    ).astype(np.float32)


def landscape_file(path, p4, signal, names=None, flags=("ttv", "is_signal_new")):
    """The layout that pandas writes, with its pickled names (protocol 0)."""
    columns, values = landscape_columns(p4)
    integers = np.stack([np.zeros(len(p4), int), signal], axis=1)
    dtype = [("index", "<i8"), ("values_block_0", "<f4", (values.shape[1],)), ("values_block_1", "<i8", (2,))]
    table = np.zeros(len(p4), dtype)
    table["index"], table["values_block_0"], table["values_block_1"] = np.arange(len(p4)), values, integers

    def pickled(words):
        return np.bytes_(
            ("(lp0\n" + "".join(f"V{w}\np{i + 1}\na" for i, w in enumerate(words)) + ".").encode()
        )

    with h5py.File(path, "w") as file:
        file["table/table"] = table
        file["table/table"].attrs["values_block_0_kind"] = pickled(names or columns)
        file["table/table"].attrs["values_block_1_kind"] = pickled(flags)
    return path


def test_top_landscape(tmp_path):
    p4, _ = four_momenta()
    signal = np.arange(N) % 2
    store = read(landscape_file(tmp_path / "train.h5", p4, signal), tmp_path)
    assert_same(store, p4.astype(np.float32))
    assert store.class_names == ("QCD", "top")
    assert store.labels().tolist() == signal.tolist()
    assert set(store.columns) == {*schema.REQUIRED_COLUMNS, "label_QCD", "label_top"}  # no truth column
    assert ak.max(store.read().jet_pt) != pytest.approx(600)


def test_top_landscape_as_pandas_writes_it(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("tables", reason="PyTables is not installed")
    p4, _ = four_momenta(n=10, most=200)
    names, values = landscape_columns(p4)
    frame = pandas.DataFrame(values, columns=names)
    frame["ttv"], frame["is_signal_new"] = 0, np.arange(10) % 2
    frame.to_hdf(tmp_path / "val.h5", key="table", format="table", complevel=5, complib="zlib")
    store = read(tmp_path / "val.h5", tmp_path)
    assert_same(store, p4.astype(np.float32))
    assert store.labels().tolist() == [0, 1] * 5


def test_top_landscape_mistakes(tmp_path):
    p4, _ = four_momenta()
    columns, _ = landscape_columns(p4)
    shifted = [columns[i - 1] for i in range(len(columns))]  # the names belong to other columns
    path = landscape_file(tmp_path / "a.h5", p4, np.zeros(N, int), shifted)
    with pytest.raises(
        InputError, match="energy is less than the momentum; are the columns in another order"
    ):
        convert([path], tmp_path / "store", progress=False)
    path = landscape_file(tmp_path / "b.h5", p4, np.zeros(N, int), flags=("ttv", "other"))
    with pytest.raises(InputError, match="table/table has no column is_signal_new"):
        convert([path], tmp_path / "store", progress=False)
    path = landscape_file(tmp_path / "c.h5", 1000 * p4, np.zeros(N, int))
    with pytest.raises(InputError, match="pT looks like MeV"):
        convert([path], tmp_path / "store", progress=False)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"c\.h5: not a whole HDF5 file"):
        convert([path], tmp_path / "store", progress=False)


# -- Aspen Open Jets ------------------------------------------------------------------------------------------


def aspen_arrays(weighted):
    p4, counts = four_momenta(massless=False)
    rng = np.random.default_rng(9)
    real = np.arange(MOST) < counts[:, None]
    weight = np.where(real, rng.uniform(0.2, 1, real.shape), 0)
    weight[:, 0] = np.where(counts > 3, 0, weight[:, 0])  # a particle of pile-up
    code = np.where(real, rng.choice([211, -211, 130, 22, 11, -13, 1, 2], real.shape), 0)
    charge = np.where(np.abs(code) == 211, np.sign(code), 0) + np.where(
        np.isin(code, (11, -13)), -np.sign(code), 0
    )
    track = np.where((charge != 0)[:, :, None], rng.normal(0.01, 0.001, (*real.shape, 4)), 0)
    energy, px, py, pz = np.moveaxis(p4, 2, 0)
    candidates = np.stack(
        [px, py, pz, energy, *np.moveaxis(track, 2, 0), charge, code, weight], axis=2
    ).astype(np.float32)
    scaled = p4 * weight[:, :, None] if weighted else p4
    total = scaled.sum(axis=1)
    pt = np.hypot(total[:, 1], total[:, 2])
    jets = np.stack(
        [pt, np.arcsinh(total[:, 3] / pt), np.arctan2(total[:, 2], total[:, 1]), np.full(N, 50.0)], axis=1
    )
    tagging = rng.uniform(0, 1, (N, 13))
    return {"PFCands": candidates, "jet_kinematics": jets, "jet_tagging": tagging}, scaled


@pytest.mark.parametrize("weighted", [True, False])
def test_aspen_open_jets(tmp_path, weighted):
    arrays, p4 = aspen_arrays(weighted)
    store = read(hdf5(tmp_path / "RunG_batch0.h5", arrays), tmp_path)
    assert_same(store, p4, rtol=1e-4)
    assert store.class_names == ()
    rows = store.read()
    np.testing.assert_allclose(rows.jet_tau4, arrays["jet_tagging"][:, 4], rtol=1e-6)
    np.testing.assert_allclose(rows.jet_sdmass, 50)
    charged = ak.flatten(rows.part_d0val[rows.part_charge != 0])
    assert np.mean(ak.to_numpy(charged)) == pytest.approx(0.1, rel=0.05)  # 0.01 cm in mm
    assert ak.all(rows.part_d0val[rows.part_charge == 0] == 0, axis=None)


def test_aspen_mistakes(tmp_path):
    arrays, _ = aspen_arrays(True)
    wrong = {**arrays, "PFCands": arrays["PFCands"][:, :, [3, 0, 1, 2, *range(4, 11)]]}
    with pytest.raises(InputError, match=r"sum to a pT that differs .*are the columns px, py, pz, E"):
        READERS["hdf5"].open(hdf5(tmp_path / "a.h5", wrong))
    with pytest.raises(InputError, match=r"jet_kinematics has shape \[30, 3\]"):
        READERS["hdf5"].open(
            hdf5(tmp_path / "b.h5", {**arrays, "jet_kinematics": arrays["jet_kinematics"][:, :3]})
        )


# -- ATLAS top tagging ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1000.0, 1.0])
def test_atlas_top_tagging(tmp_path, unit):
    p4, _ = four_momenta()
    energy, px, py, pz = np.moveaxis(p4, 2, 0)
    pt = np.hypot(px, py)
    eta = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pz), where=pt > 0))
    labels = np.arange(N) % 2
    path = hdf5(
        tmp_path / "train.h5",
        {"fjet_clus_pt": pt * unit, "fjet_clus_eta": eta, "fjet_clus_phi": np.arctan2(py, px),
         "fjet_clus_E": energy * unit, "fjet_clus_taste": np.zeros_like(pt), "labels": labels,
         "training_weights": np.ones(N)},
    )  # fmt: skip
    store = read(path, tmp_path)
    assert_same(store, p4)
    assert (store.class_names, store.labels().tolist()) == (("QCD", "top"), labels.tolist())
