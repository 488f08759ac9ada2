"""Worlds as stores: what is written, and that trainings and predictions can use it."""

import awkward as ak
import numpy as np
import pytest

from genscale.data.constituents import COLUMNS, constituents
from genscale.data.features import particle_features
from genscale.data.store import JetStore, TokenStore
from genscale.errors import InputError
from genscale.worlds import Jets, make_world
from genscale.worlds.floors import estimate_floors
from genscale.worlds.stores import (
    SPLITS,
    code_points,
    held_out_floors,
    read_jets,
    tokenizer_of,
    write_world,
)
from tokenizer import Tokenizer

SIZES = {"train": 150, "validation": 60, "test": 40}


@pytest.fixture(scope="module", params=["markov", "facts", "hierarchy", "lund"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds") / request.param
    world = make_world(request.param)
    write_world(world, folder, SIZES, progress=False)
    return world, folder


def test_tokenizing_the_jets_gives_the_tokens(written):
    world, folder = written
    coder = Tokenizer.load(folder / "tokenizer")
    assert coder.max_constituents == world.max_codes
    for split in SPLITS:
        jets, tokens = JetStore.open(folder / "jets" / split), TokenStore.open(folder / "tokens" / split)
        assert len(jets) == len(tokens) == SIZES[split]
        assert np.array_equal(jets.labels(), tokens.labels())
        found = coder.encode(constituents(jets.read(columns=COLUMNS)))
        assert ak.all(found == tokens.read(columns=["tokens"])["tokens"], axis=None)


def test_classes_are_those_of_the_world(written):
    world, folder = written
    labels = JetStore.open(folder / "jets" / "train").labels()
    assert set(labels) == set(range(len(world.prior)))


def test_splits_differ_and_the_test_split_is_marked(written):
    _, folder = written
    stores = [TokenStore.open(folder / "tokens" / split) for split in SPLITS]
    assert len({store.fingerprint for store in stores}) == 3
    assert stores[2].manifest.meta["split"] == "test"


def test_features_of_a_tagger_carry_position_and_token(written):
    """Every (position, code) has features of its own, none of them clipped; the energy may tell of the code before."""
    world, folder = written
    jets = JetStore.open(folder / "jets" / "train").read()
    values, counts = particle_features(jets, "kinematic4" if world.name != "markov" else "kinematic3")
    tokens = TokenStore.open(folder / "tokens" / "train").read(columns=["tokens"])["tokens"]
    codes = ak.to_numpy(ak.flatten(tokens[:, 1:-1])).astype(int)
    positions = np.concatenate([np.arange(n) for n in counts])
    pairs, of_pair = np.unique(positions * (world.n_codes + 1) + codes, return_inverse=True)
    assert len(np.unique(values, axis=0)) == len(pairs)
    assert abs(particle_features(jets, "kinematic4")[0][:, :2]).max() < 5
    first = np.unique(of_pair, return_index=True)[1]
    # Momenta are single-precision Cartesian components, so that equal particles agree to rounding only.
    np.testing.assert_allclose(values, values[first][of_pair], atol=1e-5)


def test_the_energy_of_a_markov_jet_is_that_of_the_symbol_before():
    world = make_world("markov", ["symbols=4"])
    jets = Jets(np.array([2, 0, 3, 1, 1]), np.array([3, 2]), np.array([0, 1]))
    assert np.log(world.context(jets)) == pytest.approx([-3, 4.5, -0.5, -3, 2.0])


def test_same_seed_same_stores(written, tmp_path):
    world, folder = written
    write_world(world, tmp_path / "again", SIZES, progress=False)
    write_world(world, tmp_path / "other", SIZES, seed=2, progress=False)
    for kind, cls in (("jets", JetStore), ("tokens", TokenStore)):
        prints = [
            cls.open(f / kind / "train").fingerprint for f in (folder, tmp_path / "again", tmp_path / "other")
        ]
        assert prints[0] == prints[1] != prints[2]


def test_an_interrupted_sample_is_resumed(tmp_path, monkeypatch):
    world = make_world("lund")
    write_world(world, tmp_path / "whole", SIZES, progress=False)
    sample, calls = type(world).sample, []

    def stops_at_the_second_split(self, n_jets, rng):
        calls.append(n_jets)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(self, n_jets, rng)

    monkeypatch.setattr(type(world), "sample", stops_at_the_second_split)
    with pytest.raises(KeyboardInterrupt):
        write_world(world, tmp_path / "resumed", SIZES, progress=False)
    assert not (tmp_path / "resumed").exists()
    with pytest.raises(InputError, match="begun with other settings"):
        write_world(world, tmp_path / "resumed", SIZES, seed=5, progress=False)
    write_world(world, tmp_path / "resumed", SIZES, progress=False)
    assert calls == [150, 60, 60, 40]
    for split in SPLITS:
        prints = {TokenStore.open(tmp_path / f / "tokens" / split).fingerprint for f in ("whole", "resumed")}
        assert len(prints) == 1


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="already there"):
        write_world(make_world("lund"), tmp_path / "out", SIZES, progress=False)


def test_students_train_on_a_world_and_do_not_beat_its_floors(tmp_path):
    from genscale.training.generator import GeneratorRun, GeneratorTask
    from genscale.training.loop import train
    from genscale.training.tagger import TaggerRun, TaggerTask
    from genscale.training.task import TrainingConfig

    world = make_world("lund")
    write_world(world, tmp_path / "lund", {"train": 2_000, "validation": 1_000, "test": 10}, progress=False)
    floors = estimate_floors(world, 5_000)
    tokens, jets = tmp_path / "lund" / "tokens", tmp_path / "lund" / "jets"
    training = TrainingConfig(
        jets=2_000, batch_jets=16, evaluations=1, validation_jets=1_000, learning_rate=0.01
    )
    generator = GeneratorRun(
        str(tokens / "train"), str(tokens / "validation"), str(tmp_path / "lund" / "tokenizer"), training=training
    )  # fmt: skip
    record = train(GeneratorTask(generator), training, tmp_path / "generator", progress=False)
    last = record.final.metrics
    # Losses are measured on finitely many jets, whose own entropies scatter.
    assert last["loss"] > floors.generation_nats_per_token.value - 3 * last["loss_error"]
    assert last["loss"] < np.log(world.n_codes)
    tagger = TaggerRun(
        str(jets / "train"), str(jets / "validation"), 8, features="kinematic4", training=training
    )
    record = train(TaggerTask(tagger), training, tmp_path / "tagger", progress=False)
    last = record.final.metrics
    assert last["loss"] > floors.tagging_nats.value - 3 * last["loss_error"]
    assert last["loss"] < 0.8


class TestTeacher:
    @pytest.fixture(scope="class")
    def folder(self, teacher_run, tmp_path_factory):
        out = tmp_path_factory.mktemp("worlds") / "teacher"
        world = make_world("teacher", [f"run={teacher_run}", "classes=[QCD,Tbqq]"])
        write_world(world, out, {"train": 60, "validation": 20, "test": 20}, progress=False)
        return out

    def test_tokens_are_of_its_tokenizer(self, folder, teacher_run):
        tokens = TokenStore.open(folder / "tokens" / "train")
        assert (
            tokens.manifest.meta["tokenizer_fingerprint"] == Tokenizer.load(folder / "tokenizer").fingerprint
        )
        assert set(tokens.labels()) == {0, 8}

    def test_particles_carry_the_tokens(self, folder):
        jets = JetStore.open(folder / "jets" / "train").read()
        tokens = TokenStore.open(folder / "tokens" / "train").read(columns=["tokens"])["tokens"]
        points = code_points(Tokenizer.load(folder / "tokenizer"))
        codes = ak.to_numpy(ak.flatten(tokens[:, 1:-1])).astype(int) - 1
        for column, values in zip(("part_energy", "part_deta", "part_dphi"), points[codes].T, strict=True):
            np.testing.assert_allclose(ak.to_numpy(ak.flatten(jets[column])), values, rtol=1e-6)

    def test_students_with_another_tokenizer_are_refused(self, folder):
        from genscale.training.generator import GeneratorRun, GeneratorTask

        other = folder.parent / "other"
        tokenizer_of(make_world("lund")).save(other)
        tokens = folder / "tokens"
        with pytest.raises(InputError, match="was not made by the tokenizer"):
            GeneratorTask(GeneratorRun(str(tokens / "train"), str(tokens / "validation"), str(other)))


def test_codes_that_look_alike_are_refused():
    coder = tokenizer_of(make_world("markov"))
    coder.model.quantizer.points[3] = coder.model.quantizer.points[1]
    with pytest.raises(InputError, match="codes 1 and 3 decode to the same particle"):
        code_points(coder)


def test_jets_are_read_back_and_held_out_floors_are_those_of_these_jets(written):
    world, folder = written
    store = TokenStore.open(folder / "tokens" / "validation")
    jets = read_jets(store, world, np.arange(len(store)))
    drawn = world.sample(60, np.random.default_rng([1, 1001, 0]))
    assert np.array_equal(jets.codes, drawn.codes)
    assert np.array_equal(jets.labels, drawn.labels)
    found = held_out_floors(world, folder / "tokens" / "validation")
    likelihood = world.log_likelihood(drawn)
    posterior, _ = world.bayes(likelihood)
    own = np.arange(60), drawn.labels
    assert found["tagging_nats"] == pytest.approx(-np.log(posterior[own]).mean())
    expected = -likelihood[own].sum() / (drawn.lengths + 1).sum()
    assert found["generation_given_class_nats_per_token"] == pytest.approx(expected)
    assert held_out_floors(world, folder / "tokens" / "validation", 30) != found
