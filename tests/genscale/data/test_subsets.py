"""Selections and mergers of stores keep jets, labels and provenance."""

import awkward as ak
import numpy as np
import pytest
from typer.testing import CliRunner

from genscale.cli import app
from genscale.data import schema, subsets
from genscale.data.store import JetStore, StoreWriter
from genscale.data.subsets import jet_values, merge, parse_ranges, select
from genscale.errors import InputError


def write(path, jets, **meta):
    writer = StoreWriter(path, "jets", meta)
    writer.write_shard("0", jets)
    writer.finish()
    return path


@pytest.fixture
def jets(tmp_path, make_jets):
    return write(tmp_path / "jets", make_jets(60, 1), split="test")


def relabelled(jets, classes, labels):
    jets = jets[[n for n in jets.fields if not n.startswith("label_")]]
    for index, name in enumerate(classes):
        jets = ak.with_field(jets, labels == index, f"label_{name}")
    return jets


def test_a_selection_has_the_jets_that_pass_in_their_order(tmp_path, jets, equal, monkeypatch):
    monkeypatch.setattr(subsets, "ROWS_PER_SHARD", 4)
    store = JetStore.open(jets)
    pt, label = ak.to_numpy(store.read().jet_pt), store.labels()
    low, high = np.quantile(pt, [0.2, 0.8])
    wanted = np.flatnonzero((pt >= low) & (pt < high) & np.isin(label, [0, 3]))
    select(jets, tmp_path / "some", ["Hgg", "QCD"], {"jet_pt": (low, high)}, progress=False)
    some = JetStore.open(tmp_path / "some")
    assert equal(some.read(), store.read(wanted))
    assert some.class_names == schema.CLASSES
    meta = some.manifest.meta
    assert meta["split"] == "test"  # a part of a test split is still not for training
    assert meta["source_fingerprint"] == store.fingerprint
    assert meta["efficiency"] == pytest.approx(len(wanted) / 60)
    assert meta["efficiency_error"] == pytest.approx(
        np.sqrt(meta["efficiency"] * (1 - meta["efficiency"]) / 60)
    )


def test_the_mass_of_jets_of_known_mass(tmp_path, make_jets):
    table = make_jets(5, 2)
    momentum = ak.to_numpy(table.jet_pt).astype(float) * np.cosh(ak.to_numpy(table.jet_eta).astype(float))
    mass = np.array([5.0, 20.0, 80.4, 125.0, 173.0])
    table["jet_energy"] = np.sqrt(momentum**2 + mass**2)
    store = JetStore.open(write(tmp_path / "jets", table))
    np.testing.assert_allclose(jet_values(store, "jet_mass"), mass, rtol=1e-2)
    assert select(tmp_path / "jets", tmp_path / "w", ranges={"jet_mass": (60, 100)}, progress=False).rows == 1


@pytest.mark.parametrize(
    ("classes", "ranges", "message"),
    [(["QDC"], {}, r"no class QDC \(found QCD, Hbb, .*nearest is QCD"),
     ([], {"jet_pT": (0, 1)}, r"no column jet_pT of jets \(found jet_mass, jet_pt.*nearest is jet_pt"),
     ([], {"label_QCD": (0, 1)}, "no column label_QCD of jets"),
     ([], {"jet_pt": (1e6, 2e6)}, r"no jet with jet_pt from 1e\+06 to 2e\+06; it goes from")],
)  # fmt: skip
def test_selections_of_nothing(tmp_path, jets, classes, ranges, message):
    with pytest.raises(InputError, match=message):
        select(jets, tmp_path / "some", classes, ranges, progress=False)
    assert not list(tmp_path.glob("some*"))


def test_ranges_as_they_are_written():
    inf = float("inf")
    assert parse_ranges(["jet_pt=500:1000", "jet_eta=:2.5", "jet_mass=60:"]) == {
        "jet_pt": (500, 1000), "jet_eta": (-inf, 2.5), "jet_mass": (60, inf),
    }  # fmt: skip
    for text in ("jet_pt", "jet_pt=500", "jet_pt=a:b", "jet_pt=9:5", "jet_pt=5:5"):
        with pytest.raises(InputError, match=f"--range {text}: expected COLUMN=LOW:HIGH"):
            parse_ranges([text])


def test_stores_of_single_classes_become_one_store(tmp_path, make_jets):
    tables = {"gluon": make_jets(7, 1), "quark": make_jets(9, 2)}
    for name, table in tables.items():
        write(tmp_path / name, relabelled(table, [name], np.zeros(len(table), int)))
    merge([tmp_path / name for name in tables], tmp_path / "both", progress=False)
    both = JetStore.open(tmp_path / "both")
    assert both.class_names == ("gluon", "quark")
    assert both.labels().tolist() == [0] * 7 + [1] * 9
    np.testing.assert_array_equal(
        both.read().jet_pt[7:], tables["quark"].jet_pt.to_numpy().astype(np.float32)
    )
    assert [entry["jets"] for entry in both.manifest.meta["stores"]] == [7, 9]


def test_classes_that_both_have_in_another_order(tmp_path, make_jets):
    labels = np.arange(6) % 2
    a = write(tmp_path / "a", relabelled(make_jets(6, 1), ("x", "y"), labels))
    b = write(tmp_path / "b", relabelled(make_jets(6, 2), ("y", "z", "x"), labels))
    merge([a, b], tmp_path / "both", progress=False)
    both = JetStore.open(tmp_path / "both")
    assert both.class_names == ("x", "y", "z")
    assert both.labels().tolist() == [0, 1] * 3 + [1, 2] * 3


def test_columns_that_not_all_have_are_left_out_aloud(tmp_path, make_jets, jets):
    bare = write(tmp_path / "bare", make_jets(5, 3)[[*schema.REQUIRED_COLUMNS, *schema.LABELS]], split="test")
    result = CliRunner().invoke(app, ["merge", str(jets), str(bare), "--out", str(tmp_path / "both")])
    assert result.exit_code == 0, result.output
    assert "left out, because not all stores have them: part_d0val" in result.output
    assert set(JetStore.open(tmp_path / "both").columns) == {*schema.REQUIRED_COLUMNS, *schema.LABELS}


def test_what_cannot_be_merged(tmp_path, make_jets, jets):
    with pytest.raises(InputError, match="at least two stores"):
        merge([jets], tmp_path / "m", progress=False)
    with pytest.raises(InputError, match="holds the same jets as"):
        merge([jets, jets], tmp_path / "m", progress=False)
    train = write(tmp_path / "train", make_jets(5, 4), split="train")
    with pytest.raises(InputError, match=r"train: of the split train, but .*jets is of test"):
        merge([jets, train], tmp_path / "m", progress=False)
    bare = write(tmp_path / "bare", make_jets(5, 5)[list(schema.REQUIRED_COLUMNS)], split="test")
    with pytest.raises(InputError, match=r"bare: has no labels, but .*jets has"):
        merge([jets, bare], tmp_path / "m", progress=False)
    assert not list(tmp_path.glob("m*"))


def test_the_command_says_what_passed(tmp_path, jets):
    out = tmp_path / "some"
    result = CliRunner().invoke(
        app, ["select", str(jets), "--class", "QCD", "--range", "jet_pt=1:", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    n = JetStore.open(out).manifest.rows
    assert f"some: {n:,} jets ({n:,} QCD), {100 * n / 60:.2f} ± " in result.output.replace("\n", " ")
