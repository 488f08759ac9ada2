"""The score of a sample as a user reads it: values, verdicts, warnings, JSON."""

import json
import math

import awkward as ak
import numpy as np
import pytest

from eval.common.errors import InputError
from eval.fidelity.distances import sliced_wasserstein, wasserstein_1d
from eval.fidelity.score import FidelityResult, score
from eval.jets.observables import DEFAULT_FIVE, compute_observables


def toy(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return {
        "jet_pt": 500 + 80 * rng.exponential(size=n) + 8 * shift,
        "jet_mass": rng.gamma(3, 25, n),
        "tau21": np.clip(rng.beta(4, 6, n) + 0.15 * shift, 0, None),
        "tau32": rng.beta(7, 4, n),
        "multiplicity": rng.poisson(45 + 6 * shift, n).astype(float),
    }


def assert_no_nan(value):
    if isinstance(value, dict):
        for item in value.values():
            assert_no_nan(item)
    elif isinstance(value, list):
        for item in value:
            assert_no_nan(item)
    elif isinstance(value, float):
        assert math.isfinite(value)


@pytest.fixture(scope="module")
def shifted():
    return score(toy(1500, 1, shift=1.0), toy(3000, 2), toy(1000, 3, shift=0.3), n_repeats=20)


def test_same_distribution_is_not_resolved_and_never_perfect():
    result = score(toy(1500, 1), toy(3000, 2), n_repeats=20)
    for name, entry in result.scores.items():
        assert not entry.resolved, name
        assert entry.verdict.startswith("not resolved at n = 1500"), name
        assert "perfect" not in entry.verdict


def test_shifted_observables_are_resolved_and_the_others_are_not(shifted):
    assert shifted.joint.resolved
    assert {name for name, entry in shifted.observables.items() if entry.resolved} >= {
        "tau21",
        "multiplicity",
    }
    assert not shifted.observables["tau32"].resolved
    # Multiplicity moved by 6 constituents: its distance is that, in constituents.
    assert shifted.observables["multiplicity"].value == pytest.approx(6, abs=0.8)
    assert shifted.observables["jet_pt"].unit == "GeV"
    assert "times the tokenizer's own" in shifted.joint.verdict


def test_values_are_those_of_the_distances(shifted):
    generated, reference = toy(1500, 1, shift=1.0), toy(3000, 2)
    x, y = (np.stack([s[name] for name in DEFAULT_FIVE], axis=1) for s in (generated, reference))
    assert shifted.joint.value == pytest.approx(sliced_wasserstein(x, y).value, rel=1e-6)
    mass = wasserstein_1d(generated["jet_mass"], reference["jet_mass"]).value
    assert shifted.observables["jet_mass"].value == pytest.approx(mass, rel=1e-6)


def test_json_is_strict_versioned_and_read_back(shifted):
    text = shifted.to_json()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert_no_nan(data)
    assert (data["schema"], data["schema_version"]) == ("genscale.fidelity", 3)
    assert set(data["observables"]) == set(DEFAULT_FIVE)
    entry = data["joint"]
    assert {"value", "standard_error", "floor", "significance", "tokenizer_floor", "verdict"} <= set(entry)
    assert {"mean", "spread", "n_repeats"} <= set(entry["floor"])
    assert FidelityResult.from_json(text).to_json() == text


def test_what_needs_no_more_jets_is_resolved_and_what_needs_more_is_not():
    judged = []
    for shift in (0.0, 0.05, 0.1, 0.2, 1.0):
        result = score(toy(800, 1, shift=shift), toy(2400, 2), n_repeats=20)
        judged += list(result.observables.values())
    judged += list(
        score(toy(800, 1) | {"jet_mass": np.r_[1e7, toy(799, 1)["jet_mass"]]}, toy(2400, 2)).scores.values()
    )
    assert {entry.resolved for entry in judged} == {True, False}
    for entry in judged:
        needed = entry.jets_to_resolve
        assert entry.resolved == (needed is not None and needed <= np.ceil(entry.floor.even_size))


def test_a_constant_reference_is_told_from_what_varies():
    generated, reference = toy(300, 1) | {"tau32": np.full(300, 0.1)}, toy(300, 2) | {"tau32": np.zeros(300)}
    result = score(generated, reference, n_repeats=5)
    assert result.observables["tau32"].resolved
    again = FidelityResult.from_json(result.to_json())
    assert again.observables["tau32"].resolved
    assert [row.name for row in again.rows()] == [row.name for row in result.rows()]


def test_a_foreign_json_is_refused():
    with pytest.raises(InputError, match=r"other.json: expected schema genscale.fidelity version 3, found"):
        FidelityResult.from_json('{"schema": "genscale.fidelity", "schema_version": 99}', "other.json")
    with pytest.raises(InputError, match="not valid JSON"):
        FidelityResult.from_json("{")


def test_jets_and_their_observables_score_the_same(make_jets):
    generated, reference = make_jets(150, 1), make_jets(300, 2)
    from_jets = score(generated, reference, n_repeats=5, alone=["softdrop_mass"])
    names = [*DEFAULT_FIVE, "softdrop_mass"]
    from_values = score(
        compute_observables(generated, names), compute_observables(reference, names), n_repeats=5,
        alone=["softdrop_mass"],
    )  # fmt: skip
    assert from_jets.to_json() == from_values.to_json()
    assert "softdrop_mass" in from_jets.observables
    assert "softdrop_mass" not in from_jets.settings["joint_observables"]


def test_weights_undo_a_biased_selection():
    rng = np.random.default_rng(0)
    reference, generated = toy(6000, 1), toy(12000, 2)
    keep_probability = np.clip(0.1 + generated["tau21"], 0, 1)
    kept = rng.random(12000) < keep_probability
    biased = {name: values[kept] for name, values in generated.items()}
    plain = score(biased, reference, n_repeats=20)
    weighted = score(biased, reference, n_repeats=20, generated_weights=1 / keep_probability[kept])
    assert plain.observables["tau21"].resolved
    assert not weighted.observables["tau21"].resolved
    assert weighted.observables["tau21"].floor.n_generated < plain.observables["tau21"].floor.n_generated


def test_warnings_say_what_is_wrong():
    small = score(toy(50, 1), toy(3000, 2), n_repeats=5)
    assert any("generated has 50 jets" in w and "0.05" in w for w in small.warnings)
    reference = toy(3000, 2)
    cut = {name: values[reference["jet_pt"] < 550] for name, values in reference.items()}
    assert any("jet_pt" in w and "cut differently" in w for w in score(reference, cut, n_repeats=5).warnings)
    assert any("reference has" in w for w in score(reference, cut, n_repeats=5).warnings)
    impossible = toy(3000, 1) | {"jet_mass": -np.ones(3000)}
    assert any("jet_mass is impossible" in w for w in score(impossible, reference, n_repeats=5).warnings)
    assert score(toy(3000, 5), toy(3000, 6), n_repeats=5).warnings == ()


def test_empty_jets_are_counted_and_warned_of(make_jets):
    jets = make_jets(200, 1)
    with_empty = ak.concatenate([jets, ak.Array([[]])])
    result = score(with_empty, jets, n_repeats=5)
    assert any("1 of 201 jets have no constituents" in w for w in result.warnings)
    assert result.n_generated == 201


def test_one_impossible_outlier_is_not_a_resolved_difference():
    generated = toy(2000, 1)
    generated["jet_mass"][0] = 1e7
    result = score(generated, toy(4000, 2), n_repeats=20)
    assert result.observables["jet_mass"].significance > 100
    assert not result.observables["jet_mass"].resolved


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"generated: observable tau32 is missing \(found jet_pt"):
        score({k: v for k, v in toy(50, 1).items() if k != "tau32"}, toy(50, 2))
    bad = toy(50, 1)
    bad["jet_mass"][3] = np.nan
    with pytest.raises(InputError, match="reference: jet_mass is not finite in 1 of 50 jets, first in jet 3"):
        score(toy(50, 1), bad)
    with pytest.raises(InputError, match="reference has 1 jets"):
        score(toy(50, 1), toy(1, 2))
    with pytest.raises(InputError, match="observables is empty"):
        score(toy(50, 1), toy(50, 2), observables=[])
