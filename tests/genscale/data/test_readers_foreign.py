"""Jets written in the layouts of other codes come back as the same jets."""

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genscale.data import schema
from genscale.data.convert import convert
from genscale.data.readers import READERS, Options
from genscale.data.store import JetStore
from genscale.errors import InputError

MOST = 6


@pytest.fixture
def padded():
    """Five jets of (pT, eta_rel, phi_rel), not sorted, one of them empty; and the axes of the jets."""
    rng = np.random.default_rng(3)
    array = np.stack([rng.exponential(40, (5, MOST)) + 1, *rng.normal(0, 0.2, (2, 5, MOST))], axis=2)
    array[np.arange(MOST)[None, :] >= np.array([6, 3, 0, 1, 4])[:, None]] = 0
    return array.astype(np.float32), rng.uniform(-2, 2, 5).astype(np.float32)


def read(path, tmp_path, **options):
    convert([path], tmp_path / "store", progress=False, **options)
    return JetStore.open(tmp_path / "store").read()


def assert_same(rows, array, jet_eta=None):
    axis = np.zeros(len(array)) if jet_eta is None else jet_eta
    for jet, particles, eta0 in zip(rows, array, axis, strict=True):
        particles = particles[particles[:, 0] > 0].astype(float)
        pt, eta, phi = particles[np.argsort(-particles[:, 0])].T
        np.testing.assert_allclose(np.hypot(jet.part_px, jet.part_py), pt, rtol=1e-5)
        np.testing.assert_allclose(jet.part_deta, eta, rtol=1e-5)
        np.testing.assert_allclose(jet.part_dphi, phi, rtol=1e-5)
        np.testing.assert_allclose(jet.part_pz, pt * np.sinh(eta + eta0), rtol=1e-4, atol=1e-4)
        momenta = np.stack(
            [ak.to_numpy(jet[f"part_{c}"]).astype(float) for c in ("px", "py", "pz", "energy")]
        )
        np.testing.assert_allclose(momenta[3] ** 2, (momenta[:3] ** 2).sum(axis=0), rtol=1e-5)
        total = momenta.sum(axis=1)
        assert jet.jet_nparticles == len(pt)
        assert jet.jet_pt == pytest.approx(np.hypot(*total[:2]), rel=1e-5)
        assert jet.jet_energy == pytest.approx(total[3], rel=1e-5)
        if len(pt):
            assert jet.jet_eta == pytest.approx(np.arcsinh(total[2] / jet.jet_pt), abs=1e-4)


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


@pytest.mark.parametrize("name", ["jets.npz", "jets.h5"])
def test_padded_array(tmp_path, padded, name):
    array, _ = padded
    path = write(tmp_path / name, {"anything": array, "labels": np.zeros(5)})
    assert_same(read(path, tmp_path, rows_per_shard=2), array)


def test_several_arrays_need_a_name(tmp_path, padded):
    array, _ = padded
    path = write(tmp_path / "jets.npz", {"particles": array, "raw": array * 2})
    assert_same(read(path, tmp_path), array)
    path = write(tmp_path / "two.h5", {"made": array, "group/raw": array})
    with pytest.raises(
        InputError, match=r"two\.h5: no array .* called particles.*found group/raw \[5, 6, 3\], made"
    ):
        READERS["hdf5"].open(path)


@pytest.mark.parametrize("name", ["jets.npz", "jets.hdf5"])
def test_jetnet_layout(tmp_path, padded, name):
    array, jet_eta = padded
    jet_pt = array[:, :, 0].sum(axis=1) + 10
    real = array[:, :, 0] > 0
    features = np.stack([array[:, :, 1], array[:, :, 2], array[:, :, 0] / jet_pt[:, None], real], axis=2)
    jets = np.stack([jet_pt, jet_eta, np.full(5, 80.0), real.sum(axis=1)], axis=1)
    path = write(tmp_path / name, {"particle_features": features, "jet_features": jets})
    assert_same(read(path, tmp_path), array, jet_eta)
    path = write(tmp_path / "no_jets.h5", {"particle_features": features})
    with pytest.raises(InputError, match=r"no_jets\.h5: particle_features is relative .* \(found none\)"):
        READERS["hdf5"].open(path)


def test_parquet_with_relative_columns(tmp_path, padded):
    array, _ = padded
    columns = {
        name: ak.Array([list(jet[jet[:, 0] > 0, k]) for jet in array])
        for k, name in enumerate(("part_pt", "part_etarel", "part_phirel"))
    }
    path = tmp_path / "jets.parquet"
    ak.to_parquet(ak.zip(columns, depth_limit=1), path, row_group_size=2)
    assert_same(read(path, tmp_path, rows_per_shard=3), array)


def test_parquet_with_the_columns_of_the_schema(tmp_path, make_jets):
    jets = make_jets(20, 1)
    path = tmp_path / "jets.parquet"
    ak.to_parquet(jets, path, row_group_size=7)
    rows = read(path, tmp_path, rows_per_shard=6)
    assert rows.fields == list(schema.COLUMNS)
    for name in schema.COLUMNS:
        ours, theirs = (ak.to_numpy(ak.flatten(table[name], axis=None)) for table in (rows, jets))
        np.testing.assert_array_equal(ours, theirs.astype(schema.DTYPES[name]), err_msg=name)


def test_parquet_without_jet_columns_sums_the_particles(tmp_path, make_jets):
    jets = make_jets(20, 1)
    path = tmp_path / "jets.parquet"
    ak.to_parquet(jets[[*schema.KINEMATICS, "part_charge"]], path)
    rows = read(path, tmp_path)
    np.testing.assert_allclose(rows.jet_pt, jets.jet_pt, rtol=1e-4)
    np.testing.assert_allclose(rows.jet_energy, jets.jet_energy, rtol=1e-4)
    np.testing.assert_array_equal(rows.jet_nparticles, jets.jet_nparticles)


class TestBadInput:
    def test_fractions_instead_of_gev(self, tmp_path, padded):
        array, _ = padded
        array[:, :, 0] /= array[:, :, 0].sum(axis=1, keepdims=True) + 1e-9
        path = write(tmp_path / "a.npz", {"x": array})
        with pytest.raises(InputError, match=r"a\.npz: array x: pT looks like a fraction of the jet's"):
            READERS["npz"].open(path)

    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [((3, 0, 1), np.nan, "eta_rel is not finite in 1 jets, first in jet 3"),
         ((0, 2, 0), np.nan, "pT is not finite in 1 jets, first in jet 0"),
         ((1, 1, 0), -4.0, "pT is negative; the columns must be pT in GeV, eta_rel, phi_rel in 1 jets")],
    )  # fmt: skip
    def test_impossible_numbers(self, tmp_path, padded, place, value, message):
        array, _ = padded
        array[place] = value
        path = write(tmp_path / "a.h5", {"x": array})
        with pytest.raises(InputError, match=rf"a\.h5, array x, from jet 0: {message}"):
            READERS["hdf5"].open(path).read(0, 5)

    def test_too_few_columns(self, tmp_path):
        path = write(tmp_path / "a.npz", {"x": np.ones((4, 3, 2))})
        with pytest.raises(InputError, match=r"array x has shape \[4, 3, 2\]; it must be .* pT in GeV"):
            READERS["npz"].open(path)

    def test_missing_columns(self, tmp_path):
        path = tmp_path / "a.parquet"
        ak.to_parquet(ak.zip({"part_pt": [[1.0]], "jet_pt": [1.0]}, depth_limit=1), path)
        with pytest.raises(
            InputError, match=r"or part_pt, part_etarel, part_phirel \(found part_pt, jet_pt\)"
        ):
            READERS["parquet"].open(path)

    def test_missing_values_and_wrong_types(self, tmp_path):
        path = tmp_path / "a.parquet"
        good = ak.Array([[1.0], [2.0]])
        ak.to_parquet(ak.zip({"part_pt": ak.Array([[1.0], None]), "part_etarel": good, "part_phirel": good},
                             depth_limit=1), path)  # fmt: skip
        with pytest.raises(InputError, match="column part_pt has missing values"):
            READERS["parquet"].open(path).read(0, 2)
        ak.to_parquet(ak.zip({"part_pt": ak.Array([1.0, 2.0]), "part_etarel": good, "part_phirel": good},
                             depth_limit=1), path)  # fmt: skip
        with pytest.raises(InputError, match="column part_pt has type double; a list of numbers"):
            READERS["parquet"].open(path).read(0, 2)

    @pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.parquet"])
    def test_a_file_cut_short(self, tmp_path, padded, name):
        path = tmp_path / name
        if name == "a.parquet":
            ak.to_parquet(ak.zip({"part_pt": [[1.0]] * 999}, depth_limit=1), path)
        else:
            write(path, {"x": padded[0]})
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(InputError, match=rf"{name}: not a whole"):
            convert([path], tmp_path / "store", progress=False)

    def test_pickled_objects_are_refused(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, x=np.array([[1], [2, 3]], dtype=object))
        with pytest.raises(InputError, match="not a whole archive of plain arrays"):
            READERS["npz"].open(path)


class TestPadded:
    """What a padded array of any generator may look like, and what it must not."""

    def centred(self, n=40, seed=0):
        rng = np.random.default_rng(seed)
        array = np.stack([rng.exponential(40, (n, MOST)) + 1, *rng.normal(0, 0.1, (2, n, MOST))], axis=2)
        array[:, 4:][rng.random((n, 2)) < 0.5] = 0
        return array

    def directions(self, n=40):
        rng = np.random.default_rng(7)
        return rng.uniform(-2, 2, (n, 1)), rng.uniform(-np.pi, np.pi, (n, 1))

    def moved(self, array, eta, phi):
        real = array[:, :, 0] > 0
        absolute = array.copy()
        absolute[:, :, 1] = np.where(real, array[:, :, 1] + eta, 0)
        absolute[:, :, 2] = np.where(real, (array[:, :, 2] + phi + np.pi) % (2 * np.pi) - np.pi, 0)
        return absolute

    def test_one_array(self, tmp_path):
        array = self.centred()
        np.save(tmp_path / "a.npy", array)
        assert_same(read(tmp_path / "a.npy", tmp_path), array)

    def test_absolute_angles_are_recentred(self, tmp_path):
        array = self.centred()
        np.save(tmp_path / "a.npy", self.moved(array, *self.directions()))
        rows = read(tmp_path / "a.npy", tmp_path)
        # The axis is now that of the sum; differences between particles are what they were.
        for jet, particles in zip(rows, array, strict=True):
            particles = particles[particles[:, 0] > 0]
            pt, eta, phi = particles[np.argsort(-particles[:, 0])].T
            np.testing.assert_allclose(np.diff(jet.part_deta), np.diff(eta), atol=1e-5)
            np.testing.assert_allclose(np.diff(jet.part_dphi), np.diff(phi), atol=1e-5)
            assert abs(np.average(jet.part_dphi, weights=pt)) < 0.01

    def test_a_mixture_of_absolute_and_relative_is_refused(self, tmp_path):
        array = self.centred()
        eta, phi = self.directions()
        eta[:28], phi[:28] = 0, 0
        np.save(tmp_path / "a.npy", self.moved(array, eta, phi))
        with pytest.raises(
            InputError, match=r"are its angles relative to the jet axis\? The particles of \d+ %"
        ):
            READERS["npy"].open(tmp_path / "a.npy")

    @pytest.mark.parametrize("order", ["Exyz", "xyzE"])
    def test_four_momenta(self, tmp_path, order):
        array = self.centred()
        pt, eta, phi = np.moveaxis(array, 2, 0)
        p = {"E": pt * np.cosh(eta), "x": pt * np.cos(phi), "y": pt * np.sin(phi), "z": pt * np.sinh(eta)}
        np.save(tmp_path / "a.npy", np.stack([p[component] for component in order], axis=2))
        rows = read(tmp_path / "a.npy", tmp_path)
        for jet, particles in zip(rows, array, strict=True):
            order_ = np.argsort(-particles[:, 0])[: jet.jet_nparticles]
            np.testing.assert_allclose(np.hypot(jet.part_px, jet.part_py), particles[order_, 0], rtol=1e-5)
            np.testing.assert_allclose(np.diff(jet.part_deta), np.diff(particles[order_, 1]), atol=1e-5)

    def test_a_fourth_column_that_is_no_energy(self, tmp_path):
        array = self.centred()
        mask = (array[:, :, :1] > 0).astype(float)
        np.save(tmp_path / "a.npy", np.concatenate([array, mask], axis=2))
        assert_same(read(tmp_path / "a.npy", tmp_path), array)

    def test_pt_in_the_last_column(self, tmp_path):
        array = self.centred()
        np.save(tmp_path / "a.npy", array[:, :, [1, 2, 0]])
        assert_same(read(tmp_path / "a.npy", tmp_path), array)

    def test_labels_and_their_names(self, tmp_path):
        array = self.centred()
        labels = np.arange(40) % 3
        np.savez(tmp_path / "a.npz", jets=array, labels=labels)
        store = convert([tmp_path / "a.npz"], tmp_path / "a", progress=False)
        assert list(store.class_counts) == ["0", "1", "2"]
        np.savez(tmp_path / "b.npz", jets=array, labels=labels, class_names=np.array(["QCD", "W", "Z"]))
        convert([tmp_path / "b.npz"], tmp_path / "b", progress=False)
        opened = JetStore.open(tmp_path / "b")
        assert opened.class_names == ("QCD", "W", "Z")
        assert opened.labels().tolist() == labels.tolist()

    def test_an_array_by_its_name(self, tmp_path):
        array = self.centred()
        path = write(tmp_path / "two.h5", {"made": array, "group/raw": 2 * array})
        options = Options(array="group/raw")
        assert_same(read(path, tmp_path, options=options), 2 * array)
        with pytest.raises(InputError, match=r"two\.h5: no array mad \(found .*made \[40, 6, 3\]"):
            READERS["hdf5"].open(path, Options(array="mad"))

    @pytest.mark.parametrize(
        ("change", "message"),
        [(lambda a: a * [1000, 1, 1], "pT looks like MeV"),
         (lambda a: a * [1, 180 / np.pi, 180 / np.pi], "look like degrees; they must be in radians"),
         (lambda a: a.transpose(0, 2, 1), "so that its last axis looks like the particles"),
         (lambda a: a[:, :, 0], "no array .jets, particles, "),
         (lambda a: a * [0.001, 1, 1] * (a[:, :, :1] > 0), "looks like a fraction of the jet's")],
    )  # fmt: skip
    def test_typical_mistakes(self, tmp_path, change, message):
        array = np.concatenate([self.centred(), self.centred(seed=1)], axis=1)
        np.savez(tmp_path / "a.npz", a=change(array))
        with pytest.raises(InputError, match=rf"a\.npz.*{message}") as caught:
            convert([tmp_path / "a.npz"], tmp_path / "store", progress=False)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("store*"))

    def test_a_class_for_all_jets(self, tmp_path):
        array = self.centred()
        np.savez(tmp_path / "a.npz", a=array)
        convert([tmp_path / "a.npz"], tmp_path / "a", progress=False, options=Options(class_name="gluon"))
        store = JetStore.open(tmp_path / "a")
        assert (store.class_names, store.manifest.class_counts) == (("gluon",), {"gluon": 40})
        np.savez(tmp_path / "b.npz", a=array, y=np.zeros(40, int))
        with pytest.raises(InputError, match=r"b\.npz: its jets have labels \(0\)"):
            convert([tmp_path / "b.npz"], tmp_path / "b", progress=False, options=Options(class_name="gluon"))
        with pytest.raises(InputError, match="class 'a gluon': a class is named by"):
            Options(class_name="a gluon")
        with pytest.raises(InputError, match="jet_pt=-5"):
            Options(jet_pt=-5)


@pytest.mark.parametrize("kind", ["nullable", "large", "fixed", "required"])
def test_parquet_lists_of_every_type(tmp_path, kind):
    """pyarrow writes nullable lists with offsets of 32 bits unless told otherwise; other writers have others."""
    rng = np.random.default_rng(1)
    pt, eta, phi = rng.exponential(40, (5, 4)) + 1, *rng.normal(0, 0.1, (2, 5, 4))
    item = pa.field("item", pa.float64(), nullable=kind != "required")
    types = {"large": pa.large_list(item), "fixed": pa.list_(item, 4)}
    columns = {"part_pt": pt, "part_etarel": eta, "part_phirel": phi}
    table = pa.table(
        {name: pa.array(values.tolist(), types.get(kind, pa.list_(item))) for name, values in columns.items()}
        | {"label_W": [True, False, True, False, False], "label_Z": [False, True, False, True, True]}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert_same(read(tmp_path / "a.parquet", tmp_path, rows_per_shard=3), np.stack([pt, eta, phi], axis=2))
    store = JetStore.open(tmp_path / "store")
    assert (store.class_names, store.labels().tolist()) == (("W", "Z"), [0, 1, 0, 1, 1])


def test_parquet_in_mev_and_with_absolute_angles(tmp_path, make_jets):
    jets = make_jets(20, 1)
    for name, change, message in (
        ("mev", lambda j: ak.with_field(j, j.part_px * 1000, "part_px"), "pT looks like MeV"),
        ("angle", lambda j: ak.with_field(j, j.part_deta + j.jet_eta, "part_deta"), "angles look absolute"),
    ):
        ak.to_parquet(change(jets), tmp_path / f"{name}.parquet")
        with pytest.raises(InputError, match=rf"{name}\.parquet, from jet 0: {message}"):
            convert([tmp_path / f"{name}.parquet"], tmp_path / "store", progress=False)
