import json
import shutil

import awkward as ak
import numpy as np
import pytest
import torch

from tokenizer import codec, storage
from tokenizer.codec import Tokenizer
from tokenizer.config import BinningConfig, VQVAEConfig
from tokenizer.errors import InputError
from tokenizer.preprocessing import FIELDS


def same(a, b):
    return ak.to_list(a) == ak.to_list(b)


def test_sequences_have_start_codes_stop(trained, jets):
    tokens = trained.encode(jets)
    assert (trained.start_token, trained.stop_token, trained.vocab_size) == (0, 65, 66)
    assert ak.all(tokens[:, 0] == 0)
    assert ak.all(tokens[:, -1] == 65)
    codes = tokens[:, 1:-1]
    assert ak.min(codes) >= 1
    assert ak.max(codes) <= 64
    assert same(ak.num(codes), ak.num(trained.preprocessing.select(jets)))
    assert np.asarray(ak.flatten(tokens)).dtype == np.int32


def test_tokens_are_the_nearest_codes_of_the_encoder(trained, jets):
    """One jet at a time through the padded training path gives the same tokens."""
    for jet, tokens in zip(jets[:20], trained.encode(jets[:20]), strict=True):
        features, mask = trained.preprocessing.padded(ak.Array([jet]))
        with torch.no_grad():
            latents = trained.model.encoder(features[mask], codec.Layout.of(mask))
        nearest = torch.cdist(latents.double(), trained.model.quantizer.codebook.double()).argmin(1) + 1
        assert tokens[1:-1].tolist() == nearest.tolist()


def test_encoding_depends_on_the_jet_alone(trained, jets):
    tokens = trained.encode(jets, batch_jets=1)
    assert same(trained.encode(jets, batch_jets=7), tokens)
    assert same(trained.encode(jets, batch_jets=1000), tokens)
    order = np.random.default_rng(0).permutation(len(jets))
    assert same(trained.encode(jets[order]), tokens[order])
    assert same(trained.encode(jets[17:18]), tokens[17:18])


def test_encoding_does_not_depend_on_the_order_of_particles(trained, jets):
    rng = np.random.default_rng(1)
    shuffled = jets[ak.argsort(ak.unflatten(rng.random(ak.sum(ak.num(jets))), ak.num(jets)), axis=1)]
    assert not same(shuffled.pt, jets.pt)
    assert same(trained.encode(shuffled), trained.encode(jets))


def test_float_noise_is_far_below_the_near_tie_limit(trained, jets):
    features, mask = trained.preprocessing.padded(jets[:50])
    layout = codec.Layout.of(mask)
    double = codec.copy.deepcopy(trained.model.encoder).double()
    with torch.no_grad():
        noise = trained.model.encoder(features[mask], layout) - double(features[mask].double(), layout)
    limit = codec.NEAR_TIE * trained.model.quantizer.search().scale
    assert 2 * noise.norm(dim=1).max() < limit / 2


def test_near_ties_are_settled_in_double_precision(trained, jets, monkeypatch):
    """With every particle called a near tie, all tokens come from the double-precision encoder."""
    expected = trained.encode(jets[:30])
    monkeypatch.setattr(codec, "NEAR_TIE", 1e9)
    assert same(trained.encode(jets[:30]), expected)


def test_decoder_is_untouched_by_encoding(trained, jets):
    calls = []
    handle = trained.model.decoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        tokens = trained.encode(jets[:5])
        assert not calls
        trained.decode(tokens)
        assert calls
    finally:
        handle.remove()


def test_reconstruction_resembles_the_jets(trained, jets):
    kept = trained.preprocessing.select(jets)
    decoded = trained.decode(trained.encode(jets), sort=False)
    assert decoded.fields == list(FIELDS)
    assert same(ak.num(decoded), ak.num(kept))
    for name in ("eta_rel", "phi_rel"):
        pair = [np.asarray(ak.flatten(x[name])) for x in (kept, decoded)]
        assert np.corrcoef(*pair)[0, 1] > 0.8
    pair = [np.log(np.asarray(ak.flatten(x.pt))) for x in (kept, decoded)]
    assert np.corrcoef(*pair)[0, 1] > 0.9
    assert same(trained.reconstruct(jets, sort=False).pt, decoded.pt)


def test_decoded_jets_are_ordered_by_falling_pt(trained, jets):
    tokens = trained.encode(jets)
    decoded, unsorted = trained.decode(tokens), trained.decode(tokens, sort=False)
    assert ak.all(decoded.pt[:, 1:] <= decoded.pt[:, :-1])
    assert same(ak.sort(unsorted.pt, ascending=False), decoded.pt)


def test_empty_jets_stay_empty(trained, jets):
    some = ak.concatenate([jets[:1][:, :0], jets[:2], jets[:1][:, :0]])
    tokens = trained.encode(some)
    assert tokens[0].tolist() == tokens[3].tolist() == [0, 65]
    decoded = trained.decode(tokens)
    assert ak.num(decoded).tolist() == [0, *ak.num(jets[:2]).tolist(), 0]
    assert same(trained.encode(some[:1]), [[0, 65]])
    assert len(trained.encode(jets[:0])) == len(trained.decode([])) == 0
    assert ak.num(trained.decode([[], [0], [0, 65]])).tolist() == [0, 0, 0]


def test_end_of_sequences_is_defined(trained):
    whole = trained.decode([[0, 5, 9, 65]])
    assert same(trained.decode([[5, 9]]), whole)  # neither start nor stop
    assert same(trained.decode([[0, 5, 9]]), whole)  # ran into the maximal length
    assert same(trained.decode([[0, 5, 9, 65, 0, 70, -1, 3]]), whole)  # padding after the stop
    assert same(trained.decode([[65, 5], [0, 5, 9, 65]]), trained.decode([[], [5, 9]]))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[0, 1, 65], [0, 3, 66]], "66 at position 2 of jet 1 is out of range; codes are 1..64"),
        ([[0, -1, 65]], "-1 at position 1 of jet 0 is out of range"),
        ([[0, 1, 0, 65]], "0 at position 2 of jet 0 is a start token within the jet"),
        ([[0.5, 1.0]], "expected integers, found float64"),
        ([1, 2], "expected a list of integers per jet"),
    ],
)
def test_malformed_sequences_are_named(trained, tokens, message):
    with pytest.raises(InputError, match=message):
        trained.decode(tokens)


def test_untrained_tokenizer_is_refused(small_config, jets):
    fresh = Tokenizer.create(small_config)
    with pytest.raises(InputError, match="the tokenizer is untrained"):
        fresh.encode(jets)
    with pytest.raises(InputError, match="the tokenizer is untrained"):
        fresh.decode([[1]])


def test_encoding_leaves_the_model_in_training(small_config, jets, make_jets, train_on):
    tokenizer = Tokenizer.create(small_config)
    train_on(tokenizer, make_jets(100, seed=0), steps=2)
    tokenizer.encode(jets[:10])
    assert tokenizer.model.training
    tokenizer.model.loss(*tokenizer.preprocessing.padded(jets[:10]))["loss"].backward()


def test_saved_and_loaded_tokenizer_is_the_same(trained, jets, tmp_path):
    trained.save(tmp_path / "tokenizer")
    loaded = Tokenizer.load(tmp_path / "tokenizer")
    assert loaded.config == trained.config
    assert loaded.fingerprint == trained.fingerprint
    tokens = trained.encode(jets)
    assert same(loaded.encode(jets), tokens)
    assert same(loaded.decode(tokens).pt, trained.decode(tokens).pt)


def test_fingerprint_follows_weights_and_configuration(small_config):
    one, same_seed = Tokenizer.create(small_config, seed=1), Tokenizer.create(small_config, seed=1)
    assert one.fingerprint == same_seed.fingerprint
    assert one.fingerprint != Tokenizer.create(small_config, seed=2).fingerprint
    other = VQVAEConfig.from_dict(small_config.as_dict() | {"commitment_weight": 5.0})
    assert one.fingerprint != Tokenizer.create(other, seed=1).fingerprint


def test_saving_again_replaces_the_tokenizer(trained, small_config, tmp_path):
    Tokenizer.create(small_config).save(tmp_path)
    (tmp_path / "record.json").write_text("{}")  # other files of a run stay
    trained.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == trained.fingerprint
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["record.json", "tokenizer.json", f"weights-{trained.fingerprint[:12]}.safetensors"]


def test_killed_save_leaves_the_old_tokenizer(trained, small_config, tmp_path, monkeypatch):
    old = Tokenizer.create(small_config)
    old.save(tmp_path)

    def killed(source, target):
        raise KeyboardInterrupt

    for survives in (0, 1):  # killed before the weights, and between weights and description
        replace = storage.os.replace
        calls = []

        def sometimes(source, target, survives=survives, replace=replace, calls=calls):
            calls.append(source)
            return replace(source, target) if len(calls) <= survives else killed(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(storage.os, "replace", sometimes)
            with pytest.raises(KeyboardInterrupt):
                trained.save(tmp_path)
        assert Tokenizer.load(tmp_path).fingerprint == old.fingerprint


def test_damaged_folders_are_named(trained, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: not a tokenizer folder, tokenizer\.json is missing"):
        Tokenizer.load(tmp_path / "nowhere")
    good = tmp_path / "good"
    trained.save(good)
    (weights,) = good.glob("*.safetensors")

    def damaged(name):
        folder = tmp_path / name
        shutil.copytree(good, folder)
        return folder, json.loads((folder / "tokenizer.json").read_text())

    folder, _ = damaged("no_weights")
    (folder / weights.name).unlink()
    with pytest.raises(InputError, match=r"safetensors: missing, though tokenizer\.json names it"):
        Tokenizer.load(folder)

    folder, _ = damaged("truncated")
    (folder / weights.name).write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        Tokenizer.load(folder)

    folder, _ = damaged("one_bit")
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    (folder / weights.name).write_bytes(bytes(data))
    with pytest.raises(InputError, match="one of them was changed or damaged"):
        Tokenizer.load(folder)

    for name, change, message in [
        ("future", {"version": 99}, "format version 99, this program reads versions up to 2"),
        ("foreign", {"format": "something else"}, "not the description of a tokenizer"),
        (
            "other_config",
            {"config": trained.config.as_dict() | {"commitment_weight": 2.0}},
            "changed or damaged",
        ),
        (
            "unknown_key",
            {"config": {"codebook": 3}},
            "unknown key 'codebook', the nearest is 'codebook_size'",
        ),
    ]:
        folder, description = damaged(name)
        (folder / "tokenizer.json").write_text(json.dumps(description | change))
        with pytest.raises(InputError, match=message):
            Tokenizer.load(folder)

    (good.parent / weights.name).write_bytes(weights.read_bytes())
    for number, outside in enumerate((f"../{weights.name}", str(weights), "..", "", 7, None)):
        folder, description = damaged(f"outside_{number}")
        (folder / "tokenizer.json").write_text(json.dumps(description | {"weights": outside}))
        with pytest.raises(InputError, match="is not the name of a file in this folder"):
            Tokenizer.load(folder)

    folder, description = damaged("no_key")
    del description["weights"]
    (folder / "tokenizer.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="key 'weights' is missing"):
        Tokenizer.load(folder)

    folder, _ = damaged("no_json")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        Tokenizer.load(folder)


def test_a_coarser_tokenizer_merges_codes_and_keeps_the_network(trained, jets):
    coarse = trained.coarsened(8, seed=1)
    assert (coarse.config.codebook_size, coarse.vocab_size) == (8, 10)
    assert coarse.fingerprint == trained.coarsened(8, seed=1).fingerprint != trained.fingerprint
    tokens = coarse.encode(jets)
    assert set(np.unique(ak.flatten(tokens))) == set(range(10))
    # A particle has the nearest of the merged vectors, which lie among those that were merged.
    fine, merged = (t.model.quantizer.codebook.numpy() for t in (trained, coarse))
    assert (merged.min(0) >= fine.min(0)).all()
    assert (merged.max(0) <= fine.max(0)).all()

    def error(tokenizer):
        return np.mean(ak.to_numpy(ak.flatten(tokenizer.reconstruct(jets, sort=False).eta_rel)
                                   - ak.flatten(trained.preprocessing.select(jets).eta_rel)) ** 2)  # fmt: skip

    assert error(trained) < error(trained.coarsened(32)) < error(coarse)


def test_a_coarser_tokenizer_is_stored_like_any_other(trained, jets, tmp_path):
    coarse = trained.coarsened(5)
    coarse.save(tmp_path / "t")
    assert same(Tokenizer.load(tmp_path / "t").encode(jets[:20]), coarse.encode(jets[:20]))


def test_codes_that_cannot_be_merged_are_refused(trained, small_config):
    with pytest.raises(InputError, match="codebook_size=64: must be from 2 to 63"):
        trained.coarsened(64)
    with pytest.raises(InputError, match="untrained"):
        Tokenizer.create(small_config).coarsened(8)
    with pytest.raises(InputError, match="codes of bins are a grid"):
        Tokenizer.create(BinningConfig()).coarsened(8)
