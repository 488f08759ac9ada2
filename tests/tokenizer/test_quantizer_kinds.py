"""Residual and finite scalar quantizers, tokenizers without sight of the jet, and their files."""

import dataclasses
import hashlib
import json

import awkward as ak
import numpy as np
import pytest
import torch
from vector_quantize_pytorch import FSQ

from tokenizer import Tokenizer, VQVAEConfig
from tokenizer.config import balanced_levels
from tokenizer.errors import InputError
from tokenizer.quantizers import FiniteScalarQuantizer, VectorQuantizer, make_quantizer

KINDS = {
    "residual": {"quantizer": "residual"},
    "fsq": {"quantizer": "fsq", "latent_dim": 3},
    "unconditional": {"conditional": False},
}


@pytest.fixture(scope="module", params=KINDS)
def other(request, small_config, make_jets, train_on):
    """A tokenizer of another kind after a few steps."""
    config = dataclasses.replace(small_config, n_encoder_blocks=1, **KINDS[request.param])
    tokenizer = Tokenizer.create(config, seed=1)
    train_on(tokenizer, make_jets(500, seed=2), steps=40)
    tokenizer.model.eval()
    return tokenizer


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [4, 8, 8], [3, 7]])
def test_fsq_equals_the_library(levels):
    ours, library = FiniteScalarQuantizer(levels), FSQ(levels)
    latents = 2 * torch.randn(1000, len(levels), generator=torch.Generator().manual_seed(0))
    vectors, codes = ours(latents)
    expected, indices = library(latents[None])
    torch.testing.assert_close(vectors, expected[0])
    assert torch.equal(codes, indices[0].long())
    torch.testing.assert_close(ours.codebook, library.implicit_codebook)
    np.testing.assert_array_equal(ours.search()(latents)[0], codes)
    places = codes[:, None] // ours.basis % ours.levels
    assert [len(place.unique()) for place in places.T] == levels  # both ends are reached


def test_fsq_margin_is_the_distance_to_the_border():
    quantizer = FiniteScalarQuantizer([5])
    position = quantizer.bounded(torch.tensor([[0.0], [0.3], [-0.7]]).double())
    _, margin = quantizer.search()(torch.tensor([[0.0], [0.3], [-0.7]]).double())
    np.testing.assert_allclose(margin, 0.5 - (position - position.round()).abs()[:, 0])
    assert margin[0] == 0.5


def test_residual_code_is_the_pair_of_nearest_codes():
    torch.manual_seed(0)
    config = VQVAEConfig(codebook_size=32, quantizer="residual", levels=[8, 4])
    quantizer = make_quantizer(config).train()
    quantizer(torch.randn(500, 4))
    first, second = (stage.codebook.double() for stage in quantizer.stages)
    latents = torch.randn(200, 4)
    one = torch.cdist(latents.double(), first).argmin(1)
    two = torch.cdist(latents.double() - first[one], second).argmin(1)
    codes, margin = quantizer.search()(latents)
    np.testing.assert_array_equal(codes, 4 * one + two)
    assert (margin >= 0).all()
    torch.testing.assert_close(quantizer.lookup(torch.from_numpy(codes)).double(), first[one] + second[two])
    assert quantizer.codebook.shape == (32, 4)


def test_residual_passes_the_gradient_once():
    torch.manual_seed(0)
    quantizer = make_quantizer(VQVAEConfig(codebook_size=32, quantizer="residual")).train()
    latents = torch.randn(100, 4, requires_grad=True)
    quantizer(latents).vectors.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_every_kind_makes_tokens_and_jets(other, jets, tmp_path):
    tokens = other.encode(jets[:100])
    kept = other.preprocessing.select(jets[:100])
    codes = ak.to_numpy(ak.flatten(tokens[:, 1:-1]))
    assert 1 <= codes.min() <= codes.max() <= other.config.codebook_size == 64
    assert ak.to_list(ak.num(tokens)) == ak.to_list(ak.num(kept) + 2)
    decoded = other.decode(tokens, sort=False)
    for name in ("eta_rel", "phi_rel"):
        pair = [ak.to_numpy(ak.flatten(sample[name])) for sample in (kept, decoded)]
        assert np.corrcoef(*pair)[0, 1] > 0.5
    other.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.config == other.config
    assert loaded.fingerprint == other.fingerprint
    assert ak.to_list(loaded.encode(jets[:100])) == ak.to_list(tokens)


def test_training_learns_in_every_kind(other, small_config, jets):
    """Held-out error lies below half the variance of the features."""
    features, mask = other.preprocessing.padded(jets[:200])
    with torch.no_grad():
        found = other.model.loss(features, mask)
    assert found["reconstruction"] < 0.5 * features[mask].var(0).mean()
    if not other.model.quantizer.commits:
        assert found["commitment"] == 0


def test_without_sight_of_the_jet_a_particle_is_alone(small_config, make_jets, train_on, jets):
    tokenizer = Tokenizer.create(dataclasses.replace(small_config, conditional=False), seed=1)
    train_on(tokenizer, make_jets(200, seed=2), steps=5)
    some = jets[:30]
    together = tokenizer.encode(some)
    alone = tokenizer.encode(some[:, :1])
    assert ak.to_list(together[:, 1]) == ak.to_list(alone[:, 1])
    first = tokenizer.decode(together, sort=False)[:, 0]
    assert ak.to_list(first) == ak.to_list(tokenizer.decode(alone)[:, 0])
    whole = Tokenizer.create(small_config).model
    sizes = [sum(p.numel() for p in model.parameters()) for model in (whole, tokenizer.model)]
    d = small_config.d_model  # attention has 4 d^2 + 4 d parameters and two norms of 2 d
    assert sizes[0] - sizes[1] == 3 * (4 * d * d + 8 * d)


def test_dead_codes_are_judged_by_the_mean_use():
    """A code with a fifth of its share lives in batches of any size; one without any particle moves."""
    for n in (40, 4000):
        torch.manual_seed(0)
        quantizer = VectorQuantizer(
            1, 4, ema_decay=0.5, dead_code_threshold=0.1, kmeans_iterations=10
        ).train()
        centres = torch.tensor([[0.0], [10.0], [20.0], [30.0]])
        quantizer(centres[torch.arange(n) % 4])
        rare = torch.where(torch.arange(n) % 20 == 0, 3, torch.arange(n) % 3)
        for _ in range(20):
            quantizer(centres[rare])
        assert torch.allclose(quantizer.codebook.sort(0).values, centres, atol=1e-3)
        for _ in range(20):
            quantizer(centres[torch.arange(n) % 3])
        assert quantizer.codebook.max() == pytest.approx(20.0, abs=1e-3)


def test_balanced_levels():
    found = {size: balanced_levels(size, 3) for size in (256, 512, 1024, 2048, 4096, 8192)}
    assert found == {
        256: [4, 8, 8], 512: [8, 8, 8], 1024: [16, 8, 8], 2048: [8, 16, 16], 4096: [16, 16, 16],
        8192: [32, 16, 16],
    }  # fmt: skip
    assert [balanced_levels(size, 2) for size in (256, 512, 8192)] == [[16, 16], [32, 16], [128, 64]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"quantizer": "lfq"}, "quantizer='lfq': must be one of vq, residual, fsq"),
        ({"levels": [8, 8, 8]}, "only for quantizer residual or fsq"),
        ({"quantizer": "fsq", "levels": [8, 8, 8]}, "fsq needs one for each of latent_dim=4"),
        ({"quantizer": "fsq", "latent_dim": 3, "levels": [8, 8, 4]}, "product is 256, codebook_size is 512"),
        ({"quantizer": "fsq", "latent_dim": 8}, "each must be at least 3 for fsq"),
        ({"quantizer": "residual", "codebook_size": 500}, "codebook_size=500: not a power of two"),
        ({"dead_code_threshold": 1.5}, "dead_code_threshold=1.5: must be below 1"),
    ],
)
def test_impossible_quantizers_are_named(values, message):
    with pytest.raises(InputError, match=message):
        VQVAEConfig(**values)


def test_tokenizers_of_version_1_keep_their_name(trained, jets, tmp_path):
    """Written again as version 1 wrote it, with its fingerprint over the keys of that time."""
    trained.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    description = json.loads(path.read_text())
    del description["kind"]
    for key in ("quantizer", "levels", "conditional", "pt_weight_power"):
        del description["config"][key]
    digest = hashlib.sha256(json.dumps(description["config"], sort_keys=True).encode())
    for name, tensor in sorted(trained.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    description |= {"version": 1, "fingerprint": digest.hexdigest()}
    path.write_text(json.dumps(description))
    old = Tokenizer.load(tmp_path)
    assert old.fingerprint == digest.hexdigest() == trained.fingerprint
    assert ak.to_list(old.encode(jets[:20])) == ak.to_list(trained.encode(jets[:20]))


def test_loss_weights_particles_by_a_power_of_their_pt(trained, jets):
    """By hand: squared errors times pT^0.5, over the mean of pT^0.5."""
    config = dataclasses.replace(trained.config, pt_weight_power=0.5)
    weighted = Tokenizer.create(config)
    weighted.model.load_state_dict(trained.model.state_dict())
    weighted.model.eval()
    found = weighted.model.loss(*trained.preprocessing.padded(jets[:20]))["reconstruction"]
    pre = trained.preprocessing
    before = pre.features(jets[:20])[0]
    decoded = trained.reconstruct(jets[:20], sort=False)
    pt, eta, phi = (ak.to_numpy(ak.flatten(decoded[name])) for name in ("pt", "eta_rel", "phi_rel"))
    after = np.stack([np.log(pt) - pre.ln_pt_shift, pre.eta_scale * eta, pre.phi_scale * phi], axis=1)
    weight = np.exp(0.5 * before[:, :1])
    expected = (weight * (after - before) ** 2).mean() / weight.mean()
    assert found.item() == pytest.approx(expected, rel=1e-4)
