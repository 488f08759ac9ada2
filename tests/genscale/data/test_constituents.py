import awkward as ak
import numpy as np
import pytest
import vector

from genscale.data.constituents import constituents, to_store_rows


@pytest.fixture
def jets() -> ak.Array:
    rng = np.random.default_rng(1)
    counts = np.append(rng.integers(1, 60, 50), 0)  # the last jet is empty
    values = {"pt": rng.exponential(20, counts.sum())}
    values |= {name: rng.normal(0, 0.3, counts.sum()) for name in ("eta_rel", "phi_rel")}
    return ak.zip({name: ak.unflatten(column, counts) for name, column in values.items()})


def test_rows_have_the_momenta_of_massless_particles_and_of_their_sum(jets):
    rows = to_store_rows(jets, None)
    momenta = vector.zip({"pt": jets.pt, "eta": jets.eta_rel, "phi": jets.phi_rel, "mass": 0 * jets.pt})
    for name in ("px", "py", "pz", "energy"):
        ours, theirs = (ak.to_numpy(ak.flatten(x)) for x in (rows[f"part_{name}"], getattr(momenta, name)))
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    jet = ak.sum(momenta, axis=1)
    for name in ("pt", "eta", "phi", "energy"):
        ours, theirs = ak.to_numpy(rows[f"jet_{name}"]), ak.to_numpy(getattr(jet, name))
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-14)
    assert rows[-1]["jet_pt"] == rows[-1]["jet_eta"] == rows[-1]["jet_phi"] == 0


def test_particles_are_the_same_after_they_were_stored(jets):
    read = constituents(to_store_rows(jets, np.zeros(len(jets), dtype=int)))
    for name in ("pt", "eta_rel", "phi_rel"):
        np.testing.assert_allclose(
            ak.to_numpy(ak.flatten(read[name])), ak.to_numpy(ak.flatten(jets[name])), rtol=1e-14
        )
