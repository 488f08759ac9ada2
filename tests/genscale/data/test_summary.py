import json

import awkward as ak
import numpy as np
import pytest

from genscale.data.store import StoreWriter
from genscale.data.summary import render, summary
from genscale.errors import InputError


@pytest.fixture
def store(tmp_path, make_jets, make_store):
    return make_store(tmp_path / "jets", [make_jets(30, 1), make_jets(20, 2)], seed=77)


def test_counts_settings_and_ranges(store):
    found = summary(store.path)
    rows = store.read()
    assert (found["kind"], found["rows"], found["items"]) == (
        "jets",
        50,
        int(ak.sum(ak.num(rows["part_px"]))),
    )
    assert found["classes"] == {n: c for n, c in store.manifest.class_counts.items() if c}
    assert found["meta"] == {"seed": 77}
    assert found["fingerprint"] == store.fingerprint
    assert found["ranges_rows"] == 50
    assert found["ranges"]["multiplicity"]["mean"] == pytest.approx(found["items"] / 50)
    pt = ak.to_numpy(rows["jet_pt"])
    assert found["ranges"]["jet_pt"] == pytest.approx({"min": pt.min(), "mean": pt.mean(), "max": pt.max()})
    json.dumps(found)


def test_mass_is_that_of_the_summed_particles(tmp_path, make_jets, make_store):
    """Two photons of 50 GeV at right angles: m^2 = 2 E1 E2 (1 - cos 90 deg) = 5000 GeV^2."""
    jets = make_jets(1, most_particles=2, least_particles=2)
    for name, values in {"px": [50, 0], "py": [0, 50], "pz": [0, 0], "energy": [50, 50]}.items():
        jets = ak.with_field(jets, ak.Array([np.array(values, dtype=np.float32)]), f"part_{name}")
    found = summary(make_store(tmp_path / "two", [jets]).path)
    assert found["ranges"]["mass"]["mean"] == pytest.approx(np.sqrt(5000))


def test_text_shows_it_all(store):
    text = render(summary(store.path, verify=True))
    for part in (
        "50 jets",
        "2 shards (verified)",
        store.fingerprint,
        "jet_pt",
        "part_d0err",
        "seed: 77",
        "Tbqq",
    ):
        assert part in text


def test_tokens(tmp_path):
    meta = {"tokenizer_fingerprint": "abc", "vocabulary_size": 10, "source_fingerprint": "def"}
    writer = StoreWriter(tmp_path / "t", "tokens", meta)
    writer.write_shard("a", ak.zip({"tokens": ak.Array([[0, 5, 9], [0, 9]]), "label": [0, 3]}, depth_limit=1))
    writer.finish()
    found = summary(tmp_path / "t")
    assert found["ranges"]["tokens per jet"] == {"min": 2, "mean": 2.5, "max": 3}
    assert found["ranges"]["token"]["max"] == 9
    assert "tokenizer_fingerprint: abc" in render(found)


def test_undefined_substructure_does_not_spoil_the_means(tmp_path, make_jets, make_store):
    jets = make_jets(4)
    jets = ak.with_field(jets, np.array([1, np.nan, 3, 5], dtype=np.float32), "jet_tau1")
    assert summary(make_store(tmp_path / "j", [jets]).path)["ranges"]["jet_tau1"]["mean"] == 3


def test_not_a_store(tmp_path):
    with pytest.raises(InputError, match=r"no manifest\.json here, so this is not a store"):
        summary(tmp_path)
