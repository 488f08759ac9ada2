import numpy as np
import pytest
import torch

from genscale.data.batching import FeatureRows
from genscale.data.features import resolve_features
from genscale.data.packing import Packing
from genscale.data.schema import CLASSES
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.inference.prediction import load_predictions, predict_store
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask, load_tagger
from genscale.training.task import TrainingConfig


@pytest.fixture(scope="module")
def tagger(jet_stores, tmp_path_factory):
    training = TrainingConfig(jets=960, batch_jets=32, evaluations=2, validation_jets=0, learning_rate=1e-2)
    run = TaggerRun(
        str(jet_stores / "train"), str(jet_stores / "validation"), 16, "uslu", "uslu9", 30, training=training
    )
    folder = tmp_path_factory.mktemp("tagger") / "run"
    return folder, train(TaggerTask(run), training, folder, progress=False)


def test_every_jet_has_the_probabilities_that_the_model_gives_it_alone(tagger, jet_stores, tmp_path):
    folder, _ = tagger
    found = predict_store(folder, jet_stores / "test", tmp_path / "p.npz", progress=False)
    store = JetStore.open(jet_stores / "test")
    assert found.probabilities.shape == (len(store), len(CLASSES))
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.labels, store.labels())
    np.testing.assert_array_equal(found.rows, np.arange(len(store)))
    model, _ = load_tagger(folder)
    rows = FeatureRows(store, resolve_features("uslu9"), 30)
    for row in (0, 7, 123, len(store) - 1):
        values, lengths, _ = rows.load(np.array([row]))
        inputs = torch.from_numpy(np.concatenate([np.zeros((1, 9), np.float32), values]))
        with torch.no_grad():
            alone = model(inputs, Packing.build(lengths + 1)).softmax(1)[0]
        np.testing.assert_allclose(found.probabilities[row], alone, rtol=2e-5, atol=1e-8)


def test_the_file_comes_back_with_its_provenance(tagger, jet_stores, tmp_path):
    folder, record = tagger
    written = predict_store(folder, jet_stores / "validation", tmp_path / "new" / "p.npz", progress=False)
    read = load_predictions(tmp_path / "new" / "p.npz")
    for name in ("probabilities", "labels", "rows"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert read.classes == CLASSES
    p = read.provenance
    assert p == written.provenance
    assert p["store_fingerprint"] == JetStore.open(jet_stores / "validation").fingerprint
    # The same jets as the run was evaluated on: the same loss, error and accuracy.
    assert p["loss"] == pytest.approx(record.final.metrics["loss"], rel=1e-5)
    assert p["loss_error"] == pytest.approx(record.final.metrics["loss_error"], rel=0.01)
    assert p["accuracy"] == pytest.approx(record.final.metrics["accuracy"])
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["p.npz"]


def test_bad_input_is_refused(tagger, jet_stores, tmp_path):
    folder, _ = tagger
    (tmp_path / "there.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"there\.npz: exists already"):
        predict_store(folder, jet_stores / "test", tmp_path / "there.npz")
    with pytest.raises(InputError, match=r"p\.csv: predictions are written as \.npz"):
        predict_store(folder, jet_stores / "test", tmp_path / "p.csv")
    with pytest.raises(InputError, match=r"no trained tagger here"):
        predict_store(tmp_path, jet_stores / "test", tmp_path / "p.npz")
    with pytest.raises(InputError, match=r"there\.npz: not a file of predictions"):
        load_predictions(tmp_path / "there.npz")
    with pytest.raises(InputError, match=r"absent\.npz: no such file; genscale predict makes it"):
        load_predictions(tmp_path / "absent.npz")
    assert not (tmp_path / "p.npz").exists()
