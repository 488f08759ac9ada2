"""Taggers standardise their inputs by constants of the training jets, which they keep."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genscale.data import standardisation
from genscale.data.batching import FeatureRows
from genscale.data.features import resolve_features
from genscale.data.packing import Packing
from genscale.data.standardisation import feature_statistics
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.inference.prediction import predict_store
from genscale.models.counting import count_parameters
from genscale.models.tagger import Tagger, TaggerConfig
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask, load_tagger
from genscale.training.task import TrainingConfig

TRAINING = TrainingConfig(jets=64, batch_jets=16, evaluations=2, first_evaluation_jets=16, validation_jets=0)


def rows(store, names="sig21", max_particles=30) -> FeatureRows:
    return FeatureRows(JetStore.open(store), resolve_features(names), max_particles)


@pytest.fixture(scope="module")
def trained(jet_stores, tmp_path_factory):
    run = TaggerRun(
        str(jet_stores / "train"), str(jet_stores / "validation"), 8, features="sig21", training=TRAINING
    )
    folder = tmp_path_factory.mktemp("tagger") / "run"
    return folder, run, train(TaggerTask(run), TRAINING, folder, progress=False)


def test_a_small_store_is_used_whole(jet_stores):
    every = rows(jet_stores / "train")
    values, _, _ = every.load(np.arange(len(every)))
    mean, deviation = feature_statistics(every)
    standard = (values - mean) / deviation
    varies = np.ptp(values, axis=0) > 0
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std(0)[varies], 1, atol=1e-4)
    assert (deviation[~varies] == 1).all()


def test_a_large_store_is_sampled_by_a_rule_that_knows_the_store_only(jet_stores, monkeypatch):
    monkeypatch.setattr(standardisation, "STATISTICS_JETS", 50)
    every = rows(jet_stores / "train")
    first, again = feature_statistics(every), feature_statistics(every)
    np.testing.assert_array_equal(first, again)
    monkeypatch.setattr(standardisation, "STATISTICS_JETS", 600)
    whole = feature_statistics(every)
    assert not np.array_equal(first[0], whole[0])
    np.testing.assert_allclose(first[0], whole[0], atol=0.2 * whole[1].max())


def test_a_feature_that_does_not_vary_is_shifted_only(jet_stores):
    class Constant(FeatureRows):
        def load(self, places):
            values, counts, labels = super().load(places)
            values[:, 0] = 0.3
            return values, counts, labels

    mean, deviation = feature_statistics(
        Constant(JetStore.open(jet_stores / "train"), ("part_d0", "part_deta"), 9)
    )
    assert mean[0] == np.float32(0.3)
    assert deviation[0] == 1 != deviation[1]


@given(st.integers(0, 2**32 - 1))
def test_a_standardised_tagger_is_a_plain_one_on_standardised_features(seed):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    plain = Tagger(TaggerConfig(8, n_features=5, n_classes=3)).eval()
    standard = Tagger(plain.config).eval()
    standard.load_state_dict(plain.state_dict())
    mean, deviation = torch.randn(5, generator=generator), torch.rand(5, generator=generator) + 0.1
    standard.standardise_by(mean.numpy(), deviation.numpy())
    features, packing = torch.randn(9, 5, generator=generator), Packing.build(np.array([5, 4]))
    torch.testing.assert_close(standard(features, packing), plain((features - mean) / deviation, packing))
    assert count_parameters(standard) == count_parameters(plain)


def test_statistics_are_saved_and_used_in_prediction(trained, jet_stores, tmp_path):
    folder, run, record = trained
    mean, deviation = feature_statistics(TaggerTask(run).train_rows)
    model, description = load_tagger(folder)
    np.testing.assert_array_equal(model.feature_mean, mean)
    np.testing.assert_array_equal(model.feature_deviation, deviation)
    assert tuple(description["feature_names"]) == resolve_features("sig21")
    found = predict_store(folder, jet_stores / "validation", tmp_path / "p.npz", progress=False)
    assert found.provenance["loss"] == pytest.approx(record.final.metrics["loss"], rel=1e-5)


def test_inputs_in_other_units_give_the_same_tagger(jet_stores, tmp_path, monkeypatch):
    """What standardisation is for: the training does not notice in which units a feature comes."""
    run = TaggerRun(str(jet_stores / "train"), str(jet_stores / "validation"), 8, training=TRAINING)
    metres = train(TaggerTask(run), TRAINING, tmp_path / "a", progress=False)
    load = FeatureRows.load

    def scaled(self, places):
        values, counts, labels = load(self, places)
        return 1024 * values, counts, labels  # a power of two: exact

    monkeypatch.setattr(FeatureRows, "load", scaled)
    millimetres = train(TaggerTask(run), TRAINING, tmp_path / "b", progress=False)
    assert millimetres.final.metrics["loss"] == pytest.approx(metres.final.metrics["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "a tagger of version 1, expected a tagger of version 2; taggers before version 2 did not"),
        ({"features": "full21"}, r"the statistics of the inputs are not those of the features 'full21' \(different: "
                                 "part_d0, part_d0sig, part_dz, part_dzsig"),
        ({"features": ["part_px", "part_energy"], "feature_names": ["part_energy", "part_px"]}, "their order"),
    ],
)  # fmt: skip
def test_taggers_of_other_inputs_are_refused(trained, tmp_path, change, message):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((trained[0] / "model.safetensors").read_bytes())
    description = json.loads((trained[0] / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | change))
    with pytest.raises(InputError, match=message):
        load_tagger(folder)


def test_the_seed_of_a_run_does_not_move_its_inputs(trained):
    _, run, _ = trained
    other = dataclasses.replace(run, training=dataclasses.replace(TRAINING, seed=9, jets=128))
    a, b = (TaggerTask(r).model for r in (run, other))
    torch.testing.assert_close(a.feature_mean, b.feature_mean, rtol=0, atol=0)
    assert not torch.equal(a.embedding.weight, b.embedding.weight)
