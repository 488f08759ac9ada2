import itertools
import json
from collections import Counter
from math import lgamma, log

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import torch

from genscale.data.constituents import to_store_rows
from genscale.data.store import StoreWriter
from genscale.errors import InputError
from genscale.inference.likelihood import Density, likelihood_store, log_likelihood
from genscale.inference.stores import encode_store
from genscale.models.files import save_network
from genscale.models.generator import Generator, GeneratorConfig
from genscale.records import RunRecord
from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.loop import train
from genscale.training.task import TrainingConfig
from tokenizer import BinningConfig, Preprocessing, Tokenizer

GEV = (1.0, 9.0)
REACH = 0.4  # of the angles


def bigram(table: np.ndarray) -> Generator:
    """A generator whose probability of a token is a table's entry [token before, token]."""
    k = len(table)
    model = Generator(GeneratorConfig(k, 0, 1, k, norm="post", scaled_embedding=False, tied_head=False))
    with torch.no_grad():
        model.embedding.weight.copy_(torch.eye(k))
        model.head.weight.copy_(torch.from_numpy(np.log(table).T))
        model.head.bias.zero_()
    return model.eval()


def binned(bins: list[int], particles: ak.Array) -> Tokenizer:
    config = BinningConfig(bins, "uniform", list(GEV), Preprocessing(max_abs_angle=REACH))
    tokenizer = Tokenizer.create(config)
    tokenizer.model.fit(tokenizer.preprocessing.features(particles)[0])
    return tokenizer


def uniform_jets(n_jets: int, n_particles: int, seed: int) -> ak.Array:
    rng = np.random.default_rng(seed)
    pt = -np.sort(-rng.uniform(*GEV, (n_jets, n_particles)))
    eta, phi = rng.uniform(-REACH, REACH, (2, n_jets, n_particles))
    return ak.zip(
        {"pt": ak.from_regular(pt), "eta_rel": ak.from_regular(eta), "phi_rel": ak.from_regular(phi)}
    )


@pytest.fixture(scope="module")
def trained(token_stores, tokenizer_run, tmp_path_factory):
    training = TrainingConfig(jets=320, batch_jets=16, evaluations=1, validation_jets=0)
    run = GeneratorRun(
        str(token_stores / "train"), str(token_stores / "validation"), str(tokenizer_run), training=training
    )
    folder = tmp_path_factory.mktemp("likelihood") / "run"
    train(GeneratorTask(run), training, folder, progress=False)
    return folder


def test_of_a_bigram_model_is_the_product_of_its_table():
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(6), size=6)
    sequences = [[0, 1, 2, 2, 5], [0, 5], [0, 4, 3, 1, 1, 1, 2, 5]]
    expected = [sum(log(table[a, b]) for a, b in itertools.pairwise(s)) for s in sequences]
    found = log_likelihood(bigram(table), ak.Array(sequences))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_does_not_depend_on_the_other_jets():
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(16, 2, 2, 12)).eval()
    rng = np.random.default_rng(1)
    sequences = [[0, *rng.integers(1, 11, n).tolist(), 11] for n in rng.integers(0, 60, 300)]
    together = log_likelihood(model, ak.Array(sequences))
    alone = [log_likelihood(model, ak.Array([s]))[0] for s in sequences[:40]]
    np.testing.assert_allclose(together[:40], alone, rtol=1e-5)


def test_is_the_held_out_loss_of_the_training(trained, token_stores, jet_stores, tmp_path):
    out = tmp_path / "jets.arrow"
    summary = likelihood_store(trained, token_stores / "validation", out, progress=False)
    metrics = RunRecord.load(trained).final.metrics
    assert summary["jets"] == 200
    assert summary["nats_per_token"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert summary["nats_per_token_error"] == pytest.approx(metrics["loss_error"], rel=1e-4)
    assert summary["nats_per_jet"] == pytest.approx(metrics["loss_per_jet"], rel=1e-5)
    assert json.loads(out.with_suffix(".json").read_text()) == summary
    with pa.OSFile(str(out)) as file:
        table = pa.ipc.open_file(file).read_all()
    assert -sum(table["log_likelihood"].to_pylist()) / sum(table["tokens"].to_pylist()) == pytest.approx(
        summary["nats_per_token"]
    )
    assert table["log_density"].null_count == 200  # a VQ-VAE has no cells
    assert summary["log_density"] is None
    assert sum(row["jets"] for row in summary["classes"].values()) == 200
    # A jet store is encoded with the run's tokenizer, and gives the same.
    encoded = likelihood_store(trained, jet_stores / "validation", tmp_path / "encoded.arrow", progress=False)
    assert encoded["nats_per_token"] == summary["nats_per_token"]
    assert out.read_bytes() == (tmp_path / "encoded.arrow").read_bytes()


@pytest.mark.parametrize(("bins", "n"), [([2, 2, 1], 2), ([3, 1, 1], 3), ([2, 1, 2], 3), ([1, 3, 1], 2)])
def test_frequencies_of_sequences_give_the_density_that_jets_were_drawn_from(bins, n):
    # The likelihood of a sequence is its frequency; whatever the bins, the density must be the uniform one.
    particles = uniform_jets(40_000, n, seed=3)
    tokenizer = binned(bins, particles)
    codes = ak.to_numpy(tokenizer.encode(particles)[:, 1:-1]).astype(np.int64) - 1
    seen = Counter(map(tuple, codes.tolist()))
    sequences = np.array([s for s, count in seen.items() if count > 100])
    frequency = np.array([seen[tuple(s)] for s in sequences.tolist()]) / len(codes)
    counts = np.full(len(sequences), n)
    found = Density.of(tokenizer).log_density(np.log(frequency), sequences.ravel(), counts)
    uniform = -n * log((GEV[1] - GEV[0]) * (2 * REACH) ** 2)
    error = 1 / np.sqrt(frequency * len(codes))
    assert len(sequences) >= 3
    assert (abs(found - uniform) < 5 * error).all()
    assert np.average(found, weights=1 / error**2) == pytest.approx(uniform, abs=0.02)


def test_density_counts_the_orders_within_a_bin_of_pt():
    # Independent particles of density q(cell) / V(cell). In the order of falling pT a sequence then has the
    # probability N! / prod_b n_b! times the product of q: sorting chooses the bins' order, chance that within a bin.
    rng = np.random.default_rng(4)
    volumes, q = rng.normal(size=6), rng.dirichlet(np.ones(6))
    density = Density(volumes, np.arange(6) // 2)
    codes = np.array([5, 4, 4, 2, 3, 2, 2, 0])
    likelihood = lgamma(9) - lgamma(4) - lgamma(5) - lgamma(2) + np.log(q[codes]).sum()
    found = density.log_density(np.array([likelihood, 0.0]), codes, np.array([8, 0]))
    np.testing.assert_allclose(found, [(np.log(q) - volumes)[codes].sum(), 0.0], rtol=1e-12)


def test_finer_bins_give_the_same_density_of_uniform_jets(tmp_path):
    # One bin of pT, where order is chance: a model without memory then has exact likelihoods.
    particles = uniform_jets(50, 5, seed=5)
    rows = to_store_rows(particles, np.arange(50) % 10)
    writer = StoreWriter(tmp_path / "jets", "jets", {})
    writer.write_shard("0", rows)
    writer.finish()
    found = []
    for bins in ([1, 2, 1], [1, 7, 5]):
        tokenizer = binned(bins, particles)
        k = tokenizer.config.codebook_size
        table = np.full((k + 2, k + 2), 1e-30)
        table[:, 1:-1] = 0.9 / k  # the jet goes on with probability 0.9, anywhere
        table[:, -1] = 0.1
        run = tmp_path / f"run-{k}"
        save_network(run, "generator", bigram(table), {"tokenizer_fingerprint": tokenizer.fingerprint})
        tokenizer.save(run / "tokenizer")
        summary = likelihood_store(run, tmp_path / "jets", run / "jets.arrow", progress=False)
        found.append((summary["log_density"]["per_jet"], summary["nats_per_jet"]))
    exact = 5 * log(0.9) + log(0.1) - 5 * log((GEV[1] - GEV[0]) * (2 * REACH) ** 2)
    assert found[0][0] == pytest.approx(exact, rel=1e-5)
    assert found[1][0] == pytest.approx(exact, rel=1e-5)
    assert found[1][1] - found[0][1] == pytest.approx(5 * log(35 / 2), rel=1e-5)


def test_nats_below_independent_particles_do_not_depend_on_the_bins(tmp_path):
    """Jets of five independent particles; the model does not know that there are five, which is all it lacks."""
    particles = uniform_jets(3000, 5, seed=6)
    writer = StoreWriter(tmp_path / "jets", "jets", {})
    writer.write_shard("0", to_store_rows(particles, np.arange(3000) % 10))
    writer.finish()
    found = []
    for bins in ([1, 2, 1], [1, 3, 2]):
        tokenizer = binned(bins, particles)
        k = tokenizer.config.codebook_size
        table = np.full((k + 2, k + 2), 1e-30)
        table[:, 1:-1], table[:, -1] = 0.9 / k, 0.1
        run = tmp_path / f"run-{k}"
        save_network(run, "generator", bigram(table), {"tokenizer_fingerprint": tokenizer.fingerprint})
        tokenizer.save(run / "tokenizer")
        encode_store(tmp_path / "jets", run / "tokenizer", tmp_path / f"tokens-{k}", progress=False)
        summary = likelihood_store(
            run, tmp_path / "jets", run / "jets.arrow", references=tmp_path / f"tokens-{k}", progress=False
        )
        below = summary["references"]["uniform"]["nats_per_jet_below"]
        assert below == pytest.approx(6 * log(k + 2) - summary["nats_per_jet"], rel=1e-5)
        found.append(summary["references"]["position"])
    for reference in found:
        assert reference["nats_per_jet_below"] == pytest.approx(5 * log(0.9) + log(0.1), abs=0.02)
        exact = -5 * log((GEV[1] - GEV[0]) * (2 * REACH) ** 2)
        assert reference["log_density_per_jet"] == pytest.approx(exact, abs=0.02)


def test_wrong_input_is_named(trained, token_stores, jet_stores, tokenizer_run, tmp_path):
    other = Tokenizer.create(Tokenizer.load(tokenizer_run).config, seed=9)
    state = Tokenizer.load(tokenizer_run).model.state_dict()
    other.model.load_state_dict({k: v + 1e-3 if v.is_floating_point() else v for k, v in state.items()})
    other.save(tmp_path / "other")
    encode_store(jet_stores / "test", tmp_path / "other", tmp_path / "foreign", progress=False)
    with pytest.raises(InputError, match="not the tokenizer that made"):
        likelihood_store(trained, tmp_path / "foreign", tmp_path / "a.arrow", progress=False)
    with pytest.raises(InputError, match="the summary goes there"):
        likelihood_store(trained, token_stores / "validation", tmp_path / "a.json", progress=False)
    with pytest.raises(InputError, match="no trained generator here"):
        likelihood_store(tokenizer_run, token_stores / "validation", tmp_path / "a.arrow", progress=False)
    assert not list(tmp_path.glob("*.arrow"))
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_class_conditional_generator_needs_labels_and_uses_them(tokenizer_run, jet_stores, tmp_path):
    tokenizer = Tokenizer.load(tokenizer_run)
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(16, 1, 2, tokenizer.vocab_size, n_classes=10))
    with torch.no_grad():
        model.class_embedding.weight.mul_(50)
    run = tmp_path / "run"
    save_network(run, "generator", model, {"tokenizer_fingerprint": tokenizer.fingerprint})
    tokenizer.save(run / "tokenizer")
    particles = uniform_jets(20, 5, seed=6)
    for name, labels in {"none": None, "qcd": np.zeros(20, int), "tbl": np.full(20, 9)}.items():
        writer = StoreWriter(tmp_path / name, "jets", {})
        writer.write_shard("0", to_store_rows(particles, labels))
        writer.finish()
    with pytest.raises(InputError, match="has no labels"):
        likelihood_store(run, tmp_path / "none", tmp_path / "a.arrow", progress=False)
    qcd, tbl = (
        likelihood_store(run, tmp_path / name, tmp_path / f"{name}.arrow", progress=False)
        for name in ("qcd", "tbl")
    )
    assert list(qcd["classes"]) == ["QCD"]
    assert qcd["nats_per_jet"] != pytest.approx(tbl["nats_per_jet"], rel=1e-4)


def test_a_jet_too_long_for_the_generator_is_refused(tokenizer_run, jet_stores, tmp_path):
    tokenizer = Tokenizer.load(tokenizer_run)
    run = tmp_path / "run"
    model = Generator(GeneratorConfig(8, 1, 2, tokenizer.vocab_size, max_tokens=11))
    save_network(run, "generator", model, {"tokenizer_fingerprint": tokenizer.fingerprint})
    tokenizer.save(run / "tokenizer")
    with pytest.raises(InputError, match=r"constituents; the generator takes 10"):
        likelihood_store(run, jet_stores / "test", tmp_path / "a.arrow", progress=False)
