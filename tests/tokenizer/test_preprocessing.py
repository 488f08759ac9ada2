import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.errors import InputError
from tokenizer.preprocessing import Preprocessing

particle = st.tuples(st.floats(1e-3, 1e4), st.floats(-0.79, 0.79), st.floats(-0.79, 0.79))


def as_jets(rows):
    """Jets from lists of (pt, eta_rel, phi_rel)."""
    lengths = [len(jet) for jet in rows]
    flat = np.array([p for jet in rows for p in jet], dtype=float).reshape(-1, 3)
    names = ("pt", "eta_rel", "phi_rel")
    return ak.zip({name: ak.unflatten(flat[:, i], lengths) for i, name in enumerate(names)})


def test_features_are_those_of_omnijet():
    features, lengths = Preprocessing().features(as_jets([[(np.exp(2.8), 0.1, -0.2)]]))
    np.testing.assert_allclose(features, [[1.0, 0.3, -0.6]], rtol=1e-6)
    assert lengths.tolist() == [1]


@settings(deadline=None)
@given(st.lists(st.lists(particle, max_size=8), min_size=1, max_size=6))
def test_inverse_is_exact_to_float32(rows):
    rows = [sorted(jet, key=lambda p: -p[0]) for jet in rows]
    preprocessing = Preprocessing()
    back = preprocessing.jets(*preprocessing.features(as_jets(rows)))
    assert ak.num(back).tolist() == [len(jet) for jet in rows]
    for jet, original in zip(back, rows, strict=True):
        for particle, (pt, eta, phi) in zip(jet, original, strict=True):
            # The feature ln pT - 1.8 is a float32 of size up to 9: relative pT to 9 x 2^-24.
            assert particle.pt == pytest.approx(pt, rel=1e-6)
            assert particle.eta_rel == pytest.approx(eta, rel=3e-7, abs=1e-37)
            assert particle.phi_rel == pytest.approx(phi, rel=3e-7, abs=1e-37)


def test_selection_drops_wide_particles_and_keeps_the_leading_ones():
    rows = [[(1.0, 0, 0), (9.0, 0.8, 0), (8.0, 0, -0.81), (5.0, -0.79, 0.79), (3.0, 0, 0)], [(2.0, 1.0, 0)]]
    kept = Preprocessing(max_constituents=2).select(as_jets(rows))
    assert kept.pt.tolist() == [[5.0, 3.0], []]


def test_padded_batch_holds_the_features_where_the_mask_is_true(jets):
    preprocessing = Preprocessing(max_constituents=20)
    features, lengths = preprocessing.features(jets[:9])
    padded, mask = preprocessing.padded(jets[:9])
    assert padded.shape == (9, lengths.max(), 3)
    assert mask.sum(1).tolist() == lengths.tolist()
    np.testing.assert_array_equal(padded[mask].numpy(), features)
    assert not padded[~mask].any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pt", 0.0, "pt=0.0 in jet 1: must be positive and finite"),
        ("pt", np.nan, "pt=nan in jet 1"),
        ("eta_rel", np.inf, "eta_rel=inf in jet 1: must be finite"),
    ],
)
def test_impossible_values_are_named(name, value, message):
    jets = as_jets([[(1.0, 0, 0)], [(2.0, 0, 0), (1.0, 0, 0)]])
    bad = ak.Array([[value]])[:, [0, 0]] if name == "pt" else ak.Array([[value, 0.0]])
    jets = ak.with_field(jets, ak.concatenate([jets[name][:1], bad]), name)
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Preprocessing().features(jets)


def test_missing_field_and_wrong_shape_are_named():
    with pytest.raises(InputError, match=r"field phi_rel is missing \(found pt, eta_rel\)"):
        Preprocessing().select(ak.Array({"pt": [[1.0]], "eta_rel": [[0.0]]}))
    with pytest.raises(InputError, match="pt must be a list of numbers per jet"):
        Preprocessing().select(ak.Array({"pt": [1.0], "eta_rel": [0.0], "phi_rel": [0.0]}))
    with pytest.raises(InputError, match="eta_rel and pt have different numbers of particles"):
        Preprocessing().select(ak.Array({"pt": [[1.0]], "eta_rel": [[0.0, 0.0]], "phi_rel": [[0.0]]}))


def test_records_of_lists_and_lists_of_records_are_the_same_jets():
    lists = ak.Array({"pt": [[3.0, 2.0], []], "eta_rel": [[0.1, 0.2], []], "phi_rel": [[0.3, 0.4], []]})
    records = as_jets([[(3.0, 0.1, 0.3), (2.0, 0.2, 0.4)], []])
    assert ak.to_list(Preprocessing().select(lists)) == ak.to_list(Preprocessing().select(records))


def test_scales_must_be_positive():
    with pytest.raises(InputError, match=r"preprocessing\.eta_scale=0"):
        Preprocessing(eta_scale=0)
