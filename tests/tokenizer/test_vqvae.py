import dataclasses

import pytest
import torch
from scipy.cluster.vq import kmeans2

from tokenizer.codec import Tokenizer
from tokenizer.config import PRESETS, VQVAEConfig
from tokenizer.errors import InputError
from tokenizer.vqvae import VQVAE, Layout, NormFormerBlock


def batch_of(trained, jets, n=12):
    return trained.preprocessing.padded(jets[:n])


def test_released_size():
    # 8 blocks of 99,840 (attention 66,048, MLP 33,024, three norms 768) and four projections.
    model = VQVAE(PRESETS["omnijet"])
    assert sum(p.numel() for p in model.parameters()) == 8 * 99_840 + 512 + 516 + 640 + 387
    assert model.quantizer.codebook.shape == (8192, 4)


def test_block_equals_torch_multihead_attention():
    torch.manual_seed(0)
    block = NormFormerBlock(d_model=16, n_heads=4, mlp_ratio=2, dropout=0.0)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    attention.in_proj_weight, attention.in_proj_bias = block.qkv.weight, block.qkv.bias
    attention.out_proj.weight, attention.out_proj.bias = block.out.weight, block.out.bias
    mask = torch.arange(7) < torch.tensor([7, 3, 1])[:, None]
    x = torch.randn(3, 7, 16)

    normed = block.norm_in(x)
    after = x + block.norm_out(attention(normed, normed, normed, key_padding_mask=~mask)[0])
    expected = (after + block.mlp(after))[mask]
    layout = Layout.of(mask)
    torch.testing.assert_close(block(layout.pack(x), layout), expected, rtol=1e-4, atol=1e-5)


def test_new_block_is_the_identity():
    x = torch.randn(6, 8)
    block = NormFormerBlock(d_model=8, n_heads=2, mlp_ratio=1, dropout=0.0)
    torch.testing.assert_close(block(x, Layout(2, 3)), x)


def test_padding_content_cannot_enter(trained, jets):
    model = copy_of(trained)
    features, mask = batch_of(trained, jets)
    model.train()
    torch.manual_seed(0)
    clean = model.loss(features, mask)
    clean["loss"].backward()
    gradient = [p.grad.clone() for p in model.parameters()]
    codebook = model.quantizer.codebook.clone()

    model = copy_of(trained)
    model.train()
    torch.manual_seed(0)
    dirty = model.loss(torch.where(mask[..., None], features, torch.nan), mask)
    dirty["loss"].backward()
    assert all(torch.equal(dirty[name], clean[name]) for name in clean)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradient, strict=True))
    assert torch.equal(model.quantizer.codebook, codebook)


def test_padding_length_cannot_enter(trained, jets):
    features, mask = batch_of(trained, jets)
    wide = torch.nn.functional.pad(features, (0, 0, 0, 60))
    wide_mask = torch.nn.functional.pad(mask, (0, 60))
    model = copy_of(trained).eval()
    plain, padded = model.loss(features, mask), model.loss(wide, wide_mask)
    assert all(torch.equal(plain[name], padded[name]) for name in plain)


def test_padding_in_the_middle_and_empty_jets_change_nothing(trained, jets):
    features, mask = batch_of(trained, jets, n=4)
    gaps = torch.zeros(6, 2 * mask.shape[1], 3)
    gap_mask = torch.zeros(6, 2 * mask.shape[1], dtype=torch.bool)
    gaps[1:5, 1::2], gap_mask[1:5, 1::2] = features, mask  # empty jets first and last
    model = copy_of(trained).train()
    torch.manual_seed(0)
    plain = model.loss(features, mask)["loss"]
    model = copy_of(trained).train()
    torch.manual_seed(0)
    spread = model.loss(gaps, gap_mask)["loss"]
    spread.backward()
    torch.testing.assert_close(spread, plain)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_loss_is_a_mean_over_real_particles(trained, jets):
    """The loss of a batch is the particle-weighted mean of the losses of its jets."""
    model = copy_of(trained).eval()
    features, mask = batch_of(trained, jets)
    whole = model.loss(features, mask)
    single = [model.loss(features[i : i + 1], mask[i : i + 1]) for i in range(len(mask))]
    weight = torch.stack([one["n_particles"] for one in single])
    assert whole["n_particles"] == weight.sum() == mask.sum()
    for name in ("loss", "reconstruction", "commitment"):
        mean = (torch.stack([one[name] for one in single]) * weight).sum() / weight.sum()
        torch.testing.assert_close(whole[name], mean)
    torch.testing.assert_close(whole["loss"], whole["reconstruction"] + whole["commitment"])


def test_decoder_sees_the_whole_jet(trained, jets):
    """Changing one particle changes the latents of the others: the code is conditional on the jet."""
    features, mask = batch_of(trained, jets, n=1)
    layout = Layout.of(mask)
    rows = layout.pack(features)
    other = rows.clone()
    other[-1, 1] += 1.0
    with torch.no_grad():
        assert not torch.allclose(
            trained.model.encoder(rows, layout)[:-1], trained.model.encoder(other, layout)[:-1]
        )


def test_order_of_particles_is_irrelevant(trained, jets):
    features, mask = batch_of(trained, jets, n=1)
    layout = Layout.of(mask)
    rows = layout.pack(features)
    shuffle = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = trained.model.encoder(rows, layout)
        torch.testing.assert_close(
            trained.model.encoder(rows[shuffle], layout), latents[shuffle], rtol=1e-4, atol=1e-5
        )


def test_training_repeats_by_seed(small_config, make_jets, train_on):
    jets = make_jets(300, seed=5)
    first = train_on(Tokenizer.create(small_config, seed=1), jets, steps=12)
    assert first == train_on(Tokenizer.create(small_config, seed=1), jets, steps=12)
    assert first != train_on(Tokenizer.create(small_config, seed=2), jets, steps=12)


def test_new_model_is_kmeans_and_training_improves_on_it(trained, jets, make_jets):
    """Before any step the latents are the features, and decoding gives back the centre of the cluster."""
    features, mask = trained.preprocessing.padded(make_jets(300, seed=2))
    fresh = Tokenizer.create(trained.config, seed=0).model.train()
    torch.manual_seed(0)
    start = fresh.loss(features, mask)
    rows = features[mask]
    centres, codes = kmeans2(rows.double().numpy(), trained.config.codebook_size, minit="++", seed=0)
    expected = ((rows.numpy() - centres[codes]) ** 2).mean()
    assert start["reconstruction"].item() == pytest.approx(expected, rel=0.15)

    held_out = trained.preprocessing.padded(jets)
    fresh.eval()
    assert copy_of(trained).eval().loss(*held_out)["reconstruction"] < (
        0.95 * fresh.loss(*held_out)["reconstruction"]
    )


def test_all_three_features_are_learnt(trained, jets):
    """No feature is lost in the bottleneck: each is told far better than its mean would tell it."""
    features, mask = trained.preprocessing.padded(jets)
    layout = Layout.of(mask)
    rows = features[mask]
    with torch.no_grad():
        vectors = trained.model.quantizer(trained.model.encoder(rows, layout)).vectors
        error = (trained.model.decoder(vectors, layout) - rows).square().mean(0)
    assert (error < 0.3 * rows.var(0)).all()


def test_training_with_dropout_resumes_exactly(small_config, make_jets):
    """Weights, optimizer and generator state are all there is."""
    config = dataclasses.replace(small_config, dropout=0.1, dead_code_threshold=0.2)
    jets = make_jets(200, seed=5)
    preprocessing = config.preprocessing
    batches = [preprocessing.padded(jets[i : i + 32]) for i in range(0, 192, 32)]

    def run(model, optimizer, some):
        model.train()
        losses = []
        for batch in some:
            out = model.loss(*batch)
            optimizer.zero_grad()
            out["loss"].backward()
            optimizer.step()
            losses.append(out["loss"].item())
        return losses

    torch.manual_seed(11)
    model = VQVAE(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    run(model, optimizer, batches[:3])
    saved = {k: v.clone() for k, v in model.state_dict().items()}
    saved_optimizer, saved_rng = optimizer.state_dict(), torch.get_rng_state()
    saved_optimizer = {
        "state": {i: {k: v.clone() for k, v in s.items()} for i, s in saved_optimizer["state"].items()},
        "param_groups": saved_optimizer["param_groups"],
    }
    expected = run(model, optimizer, batches[3:])

    torch.manual_seed(99)
    resumed = VQVAE(config)
    resumed.load_state_dict(saved)
    optimizer = torch.optim.AdamW(resumed.parameters(), lr=1e-3)
    optimizer.load_state_dict(saved_optimizer)
    torch.set_rng_state(saved_rng)
    assert run(resumed, optimizer, batches[3:]) == expected
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_bad_batches_and_values_are_named(small_config):
    model = VQVAE(small_config)
    with pytest.raises(InputError, match="batch without particles"):
        model.loss(torch.zeros(2, 3, 3), torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="the tokenizer is untrained"):
        model.eval().loss(torch.zeros(2, 3, 3), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="d_model=30: must be a multiple of n_heads=8"):
        VQVAEConfig(d_model=30)
    with pytest.raises(InputError, match="codebook_size=1: must be at least 2"):
        VQVAEConfig(codebook_size=1)
    with pytest.raises(InputError, match="unknown key 'codebok_size', the nearest is 'codebook_size'"):
        VQVAEConfig.from_dict({"codebok_size": 3})


def copy_of(tokenizer):
    model = VQVAE(tokenizer.config)
    model.load_state_dict(tokenizer.model.state_dict())
    return model
