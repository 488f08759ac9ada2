import math

import awkward as ak
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genscale.data import schema
from genscale.data.features import (
    FEATURE_SETS,
    FEATURES,
    needed_columns,
    particle_features,
    resolve_features,
)
from genscale.errors import InputError


def weaver(jet: ak.Record, i: int) -> dict[str, float]:
    """One particle's inputs, written out from JetClass_full.yaml of the Particle Transformer."""
    px, py, pz, energy = (float(jet[f"part_{c}"][i]) for c in ("px", "py", "pz", "energy"))
    pt = math.sqrt(px * px + py * py)
    deta, dphi = float(jet["part_deta"][i]), float(jet["part_dphi"][i])

    def standard(value: float, center: float, scale: float) -> float:
        return min(5.0, max(-5.0, (value - center) * scale))

    return {
        "part_energy": energy / 100,
        "part_px": px / 100,
        "part_py": py / 100,
        "part_pz": pz / 100,
        "part_pt_log": standard(math.log(pt), 1.7, 0.7),
        "part_e_log": standard(math.log(energy), 2.0, 0.7),
        "part_logptrel": standard(math.log(pt / jet["jet_pt"]), -4.7, 0.7),
        "part_logerel": standard(math.log(energy / jet["jet_energy"]), -4.7, 0.7),
        "part_deltaR": standard(math.hypot(deta, dphi), 0.2, 4.0),
        "part_d0": math.tanh(jet["part_d0val"][i]),
        "part_dz": math.tanh(jet["part_dzval"][i]),
        "part_d0err": min(1.0, max(0.0, jet["part_d0err"][i])),
        "part_dzerr": min(1.0, max(0.0, jet["part_dzerr"][i])),
        "part_deta": deta,
        "part_dphi": dphi,
        **{name: float(jet[name][i]) for name in schema.IDENTITY},
    }


def test_full_set_is_the_four_momentum_and_the_17_of_part():
    assert len(FEATURE_SETS["full21"]) == len(set(FEATURE_SETS["full21"])) == 21
    assert FEATURE_SETS["full21"][:4] == ("part_energy", "part_px", "part_py", "part_pz")
    assert FEATURE_SETS["part17"] == FEATURE_SETS["full21"][4:]
    assert [len(FEATURE_SETS[name]) for name in ("kinematic3", "uslu9", "part17")] == [3, 9, 17]


def test_significances_replace_displacements_and_nothing_else():
    full, significant = FEATURE_SETS["full21"], FEATURE_SETS["sig21"]
    assert len(set(significant)) == 21
    differ = {(a, b) for a, b in zip(full, significant, strict=True) if a != b}
    assert differ == {("part_d0", "part_d0sig"), ("part_dz", "part_dzsig")}


def test_significances_by_hand():
    """Signed, and 0 for particles without an error, whatever stands in the place of their displacement."""
    jet = {"part_d0val": [[0.3, -0.3, 7.0, 7.0]], "part_d0err": [[0.1, 0.01, 0.0, -1.0]]}
    jet |= {"part_dzval": [[0.0, -2.0, 1.0, 0.0]], "part_dzerr": [[0.5, 0.5, 0.0, 0.0]]}
    with np.errstate(all="raise"):
        values, _ = particle_features(
            ak.zip({k: ak.Array(v) for k, v in jet.items()}, depth_limit=1), ["part_d0sig", "part_dzsig"]
        )
    expected = [[math.asinh(3), 0], [math.asinh(-30), math.asinh(-4)], [0, 0], [0, 0]]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_every_value_against_the_published_configuration(make_jets):
    jets = make_jets(40, seed=3)
    values, counts = particle_features(jets, "full21")
    expected = [weaver(jet, i) for jet in jets for i in range(len(jet["part_px"]))]
    assert counts.tolist() == ak.to_list(ak.num(jets["part_px"]))
    for place, name in enumerate(FEATURE_SETS["full21"]):
        np.testing.assert_allclose(
            values[:, place], [row[name] for row in expected], rtol=2e-5, atol=2e-6, err_msg=name
        )


def test_a_particle_by_hand():
    """pT 50 of 500 GeV at (0.3, 0.4) from the axis, 2 mm off the beam line with an error beyond the clip."""
    jet = {"part_px": [[30.0]], "part_py": [[40.0]], "part_deta": [[0.3]], "part_dphi": [[0.4]]}
    jet |= {"part_d0val": [[2.0]], "part_d0err": [[7.0]], "jet_pt": [500.0]}
    names = ["part_pt_log", "part_logptrel", "part_deltaR", "part_d0", "part_d0err"]
    values, counts = particle_features(ak.zip({k: ak.Array(v) for k, v in jet.items()}, depth_limit=1), names)
    expected = [(math.log(50) - 1.7) * 0.7, (math.log(0.1) + 4.7) * 0.7, 0.3 * 4, math.tanh(2), 1.0]
    np.testing.assert_allclose(values, [expected], rtol=1e-6)
    assert (values.dtype, counts.dtype, counts.tolist()) == (np.float32, np.int64, [1])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(1, 15), names=st.sampled_from(sorted(FEATURE_SETS)))
def test_leading_particles_are_the_first_ones(make_jets, seed, most, names):
    jets = make_jets(9, seed, least_particles=0)
    every, counts = particle_features(jets, names)
    some, kept = particle_features(jets, names, max_particles=most)
    assert kept.tolist() == np.minimum(counts, most).tolist()
    starts = np.cumsum(counts) - counts
    expected = np.concatenate([every[s : s + k] for s, k in zip(starts, kept, strict=True)])
    np.testing.assert_array_equal(some, expected)


def test_jets_do_not_see_each_other(make_jets):
    jets = make_jets(20, seed=5)
    together, _ = particle_features(jets, "full21")
    apart = [particle_features(jets[i : i + 1], "full21")[0] for i in range(20)]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_many_particles_are_computed_as_few_are(make_jets):
    jets = make_jets(3000, seed=2)
    together, counts = particle_features(jets, "full21", max_particles=20)
    assert counts.sum() > 2 * 8192  # more than are computed at a time
    apart = [
        particle_features(jets[low : low + 250], "full21", max_particles=20)[0] for low in range(0, 3000, 250)
    ]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_order_of_names_is_order_of_columns(make_jets):
    jets = make_jets(5)
    names = ["part_dphi", "part_px", "part_isMuon"]
    values, _ = particle_features(jets, names)
    for place, name in enumerate(names):
        np.testing.assert_array_equal(values[:, [place]], particle_features(jets, [name])[0])


def test_from_a_store_only_the_needed_columns(tmp_path, make_jets, make_store):
    jets = make_jets(15)
    store = make_store(tmp_path / "jets", [jets[:6], jets[6:]])
    for names in FEATURE_SETS:
        rows = store.read(np.arange(14, -1, -1), columns=needed_columns(names))
        expected, _ = particle_features(jets[::-1], names)
        np.testing.assert_allclose(particle_features(rows, names)[0], expected, rtol=1e-6)
    assert needed_columns("kinematic3") == ("part_px", "part_py", "part_deta", "part_dphi")


def test_a_particle_at_rest_stays_finite():
    """A generated jet may hold particles without momentum: their logarithms are clipped, not infinite."""
    zero = ak.Array([[0.0, 0.0]])
    jets = ak.zip(
        dict.fromkeys(schema.KINEMATICS, zero) | {"jet_pt": [0.0], "jet_energy": [0.0]}, depth_limit=1
    )
    names = ["part_pt_log", "part_e_log", "part_logptrel", "part_logerel", "part_deltaR"]
    with np.errstate(all="raise"):
        values, _ = particle_features(jets, names)
    assert np.isfinite(values).all()
    assert (np.abs(values) <= 5).all()


def test_no_jets(make_jets):
    values, counts = particle_features(make_jets(3)[:0], "full21", max_particles=4)
    assert values.shape == (0, 21)
    assert counts.shape == (0,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("part_ptlog", "did you mean part_pt_log"),
        ("full12", "did you mean full21"),
        ("zzzz", "known: part_energy"),
    ],
)
def test_unknown_feature(name, message):
    with pytest.raises(InputError, match=f"feature '{name}' is not known; {message}"):
        resolve_features([name])


def test_no_features():
    with pytest.raises(InputError, match="no features given: name some, or a set"):
        resolve_features([])


def test_store_without_displacements(make_jets):
    generated = make_jets(2)[list(schema.REQUIRED_COLUMNS)]
    with pytest.raises(InputError, match=r"part_charge needs column part_charge .*use the set kinematic3"):
        particle_features(generated, "full21")
    with pytest.raises(InputError, match=r"feature part_d0 needs column part_d0val \(found part_px"):
        particle_features(generated, ["part_d0"])
    assert particle_features(generated, "kinematic3")[0].shape[1] == 3


def test_max_particles_below_one(make_jets):
    with pytest.raises(InputError, match="max_particles=0: at least 1"):
        particle_features(make_jets(1), "kinematic3", max_particles=0)


def test_every_feature_says_what_it_is():
    assert all(feature.meaning and set(feature.needs) <= set(schema.COLUMNS) for feature in FEATURES.values())
