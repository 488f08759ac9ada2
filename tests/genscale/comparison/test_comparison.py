"""Comparisons of tokenizers through the command line, and the choice between them."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.fidelity.distances import sliced_wasserstein
from eval.jets.observables import DEFAULT_FIVE
from genscale.cli import app
from genscale.comparison.family import FamilyConfig
from genscale.comparison.measure import same_jets_distance
from genscale.comparison.result import Measured, by_rate, by_training_time, seed_spread
from genscale.config import load_config
from genscale.data.constituents import to_store_rows
from genscale.data.store import StoreWriter
from genscale.errors import InputError
from tokenizer import Tokenizer, VQVAEConfig

CONFIG = Path(__file__).parents[3] / "configs" / "tokenizer" / "comparison.yaml"


@pytest.fixture(scope="module")
def stores(make_jets, tmp_path_factory):
    """Training jets and held-out ones."""
    folders = []
    for name, seed in (("jets", 4), ("held-out", 5)):
        folders.append(tmp_path_factory.mktemp("stores") / name)
        writer = StoreWriter(folders[-1], "jets", {})
        writer.write_shard("00000", to_store_rows(make_jets(600, seed=seed), np.zeros(600, dtype=int)))
        writer.finish()
    return folders


@pytest.fixture(scope="module")
def store(stores):
    return stores[0]


@pytest.fixture(scope="module")
def held_out(stores):
    return stores[1]


@pytest.fixture(scope="module")
def bins(store, tmp_path_factory):
    """Three tokenizers of finer and finer bins."""
    folders = []
    for bins in ("[2,2,2]", "[4,4,4]", "[8,8,8]"):
        folder = tmp_path_factory.mktemp("tokenizers") / f"bins-{bins[1]}"
        run("bin", store, "--out", folder, f"bins={bins}")
        folders.append(folder)
    return folders


def run(*words, code=0):
    found = CliRunner().invoke(app, ["tokenizer", *map(str, words)])
    if code:
        assert isinstance(found.exception, InputError)
        return str(found.exception)
    assert found.exit_code == 0, found.output + repr(found.exception)
    return found.output


def test_comparison_of_bins(bins, store, tmp_path):
    output = run("quality", *bins, store, "--out", tmp_path / "q")
    assert "Up to 9 bits per particle: bins-8" in output
    found = json.loads((tmp_path / "q" / "comparison.json").read_text())
    assert (found["schema"], found["schema_version"], found["n_jets"]) == (
        "genscale tokenizer comparison",
        1,
        600,
    )
    assert [row["name"] for row in found["rows"]] == ["bins-2", "bins-4", "bins-8"]
    swd = [row["swd"] for row in found["rows"]]
    assert swd[0] > swd[1] > swd[2]
    for row, size in zip(found["rows"], (8, 64, 512), strict=True):
        assert row["quality"]["nominal_bits_per_particle"] == math.log2(size)
        assert row["quality"]["bits_per_particle"] <= math.log2(size)
        assert row["observables"]["multiplicity"]["rms"] < 1
        assert row["halves"]["floor"] > 0
        assert (row["halves"]["n_decoded"], row["halves"]["n_reference"]) == (300, 300)
    table = list(csv.DictReader((tmp_path / "q" / "comparison.csv").open()))
    assert [float(row["swd"]) for row in table] == pytest.approx(swd, rel=1e-5)
    page = (tmp_path / "q" / "comparison.html").read_text()
    assert re.search(r"at most 9 bits \(log2 K\)</td><td[^>]*>bins-8</td>", page)
    assert (tmp_path / "q" / "comparison.png").stat().st_size > 10_000


def test_one_tokenizer_gives_its_quality(bins, store, tmp_path):
    output = run("quality", bins[2], store, "--out", tmp_path / "q.json", "--jets", 200)
    assert "codes used" in output
    found = json.loads((tmp_path / "q.json").read_text())
    assert (found["n_jets"], found["codebook_size"]) == (200, 512)


def test_family_is_trained_once(store, held_out, tmp_path):
    words = (
        "compare", "--jets", store, "--validation", held_out, "--test", store, "--out", tmp_path / "family",
        "kinds=[fsq,bins-uniform]", "codebook_sizes=[64]", "repeated_sizes=[64]", "seeds=[1,2]", "bins_jets=300",
        "model.d_model=16", "model.n_heads=2", "model.n_encoder_blocks=1", "model.n_decoder_blocks=1",
        "training.jets=320", "training.batch_jets=64", "training.evaluations=1", "training.validation_jets=64",
    )  # fmt: skip
    run(*words)
    first = json.loads((tmp_path / "family" / "comparison.json").read_text())
    assert [row["name"] for row in first["rows"]] == ["fsq-64", "fsq-64-seed2", "bins-uniform-64"]
    assert first["seed_spread"] > 0
    cost = json.loads((tmp_path / "family" / "fsq-64" / "cost.json").read_text())
    assert cost["jets_seen"] == 320
    assert cost["cpu_seconds"] > 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "family").glob("*/tokenizer.json")}
    assert len(times) == 3
    run(*words)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    again = json.loads((tmp_path / "family" / "comparison.json").read_text())
    assert again == first
    message = run(*words, "model.commitment_weight=0.5", "pt_range_gev=[1,500]", code=2)
    assert "another configuration" in message


def test_distance_of_the_same_jets():
    rng = np.random.default_rng(0)
    before = {name: rng.normal(size=2000) for name in DEFAULT_FIVE}
    assert same_jets_distance(before, before) == (0.0, 0.0)
    after = {name: 1.1 * values + 0.2 for name, values in before.items()}
    value, error = same_jets_distance(after, before)
    matrix = [np.stack(list(sample.values()), axis=1) for sample in (after, before)]
    assert value == pytest.approx(sliced_wasserstein(*matrix).value, rel=1e-6)
    assert 0 < error < 0.1 * value


def row(name, size, swd, seconds, error=0.01):
    return Measured(name, "", size, 0, 1, seconds, swd, error, {}, {}, {}, {})


def test_the_best_within_a_rate_and_the_cheapest_of_ties():
    rows = [row("a-256", 256, 0.30, 5), row("b-256", 256, 0.20, 50), row("a-512", 512, 0.10, 60),
            row("b-512", 512, 0.11, 10), row("c-1024", 1024, 0.4, 1)]  # fmt: skip
    found = {choice.budget: choice for choice in by_rate(rows, None)}
    assert [found[bits].name for bits in (8.0, 9.0, 10.0)] == ["b-256", "b-512", "b-512"]
    assert found[9.0].best == "a-512"
    assert found[9.0].tied == ["a-512"]
    times = [(choice.budget, choice.name) for choice in by_training_time(rows, None)]
    assert times == [(1.0, "c-1024"), (10.0, "b-512")]


def test_seeds_are_one_configuration_and_give_the_spread():
    rows = [
        row("a-512", 512, 0.09, 1),
        row("a-512-seed2", 512, 0.11, 3),
        row("b-512", 512, 0.135, 1, error=0.001),
    ]
    spread = seed_spread(rows)
    assert spread == pytest.approx(np.std([0.9, 1.1], ddof=1))
    (choice,) = by_rate(rows, spread)
    assert (choice.name, choice.tied) == ("b-512", ["a-512"])  # 0.035 is within two errors, and it is cheaper
    (choice,) = by_rate([*rows[:1], row("b-512", 512, 0.135, 1)], None)
    assert (choice.name, choice.tied) == ("a-512", [])
    assert seed_spread(rows[2:]) is None


def test_wrong_use_is_named(bins, store, tmp_path):
    assert "one path only" in run("quality", store, code=2)
    assert "bins-2: two tokenizers have this name" in run("quality", bins[0], bins[0], store, code=2)
    assert "too few to compare" in run("quality", *bins[:2], store, "--jets", 10, code=2)
    with pytest.raises(InputError, match=r"kinds: 'vqq' is not one of vq, .*did you mean vq"):
        load_config(FamilyConfig, None, ["kinds=[vqq]"])
    assert "another configuration" in run("bin", store, "--out", bins[0], "bins=[4,2,2]", code=2)


def test_all_members_are_possible():
    """Every kind at every size of the file can be made, and has the size it says."""
    members = list(load_config(FamilyConfig, CONFIG).members())
    assert len(members) == 6 * 6 + 4
    for name, config, _ in members:
        assert str(config.codebook_size) in name
        if isinstance(config, VQVAEConfig) and config.codebook_size == 256:
            assert Tokenizer.create(config).model.quantizer.codebook.shape[0] == 256
