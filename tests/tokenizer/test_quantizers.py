import numpy as np
import torch

from tokenizer.quantizers import NearestCodes, VectorQuantizer


def make(dim=4, codes=32, decay=0.5, threshold=0.5):
    return VectorQuantizer(dim, codes, ema_decay=decay, dead_code_threshold=threshold, kmeans_iterations=5)


def test_kmeans_start_places_codes_on_the_latents():
    """With as many codes as distinct points, every code is a point."""
    torch.manual_seed(0)
    quantizer = make(dim=2, codes=6)
    points = torch.tensor([[5.0, 0], [0, 5], [-5, 0], [0, -5], [5, 5], [-5, -5]])
    vectors, codes = quantizer.train()(points)
    torch.testing.assert_close(vectors, points, atol=1e-3, rtol=1e-3)
    assert sorted(codes.tolist()) == list(range(6))


def test_codes_never_lie_where_no_latent_is(trained, jets):
    """The codebook of a trained model has no code at the image of padding, and no duplicates."""
    codebook = trained.model.quantizer.codebook
    features, _ = trained.preprocessing.features(jets)
    from tokenizer.vqvae import Layout

    with torch.no_grad():
        padding = trained.model.encoder(torch.zeros(1, 3), Layout(1, 1))
    assert torch.cdist(codebook, padding).min() > 1e-3
    assert torch.cdist(codebook, torch.zeros(1, codebook.shape[1])).min() > 1e-6
    assert torch.pdist(codebook).min() > 1e-6
    assert len(features)


def test_dead_codes_move_onto_real_latents_only():
    """Latents on a ring, batches with much padding: no code may leave the ring for the padding's place."""
    from tokenizer.config import VQVAEConfig
    from tokenizer.vqvae import VQVAE

    torch.manual_seed(0)
    config = VQVAEConfig(
        codebook_size=32,
        latent_dim=2,
        d_model=16,
        n_heads=2,
        n_encoder_blocks=1,
        n_decoder_blocks=1,
        ema_decay=0.5,
        dead_code_threshold=0.9,
    )
    model = VQVAE(config).train()
    mask = torch.arange(50) < torch.tensor([5, 9, 2, 7, 1, 6])[:, None]
    for step in range(30):
        angle = torch.rand(6, 50) * 2 * torch.pi
        features = torch.stack([10 * angle.cos(), 10 * angle.sin(), torch.full_like(angle, 10)], -1)
        model.loss(features * mask[..., None], mask)
        if step == 0:
            embed = model.encoder(torch.tensor([[0.0, 0.0, 0.0]]), _single()).detach()
    assert torch.cdist(model.quantizer.codebook, embed).min() > 0.5
    # Every code was moved or used at the last step; all are images of particles on the ring.
    angle = torch.linspace(0, 2 * torch.pi, 2000)
    ring = torch.stack([10 * angle.cos(), 10 * angle.sin(), torch.full_like(angle, 10)], -1)
    images = model.encoder(ring, _single(2000)).detach()
    assert torch.cdist(model.quantizer.codebook, images).min(dim=1).values.max() < 0.5


def _single(n=1):
    from tokenizer.vqvae import Layout

    return Layout(n, 1)


def test_use_is_counted_on_real_particles(trained, jets):
    """Codes found by hand, particle by particle, give the use and perplexity that the loss reports."""
    features, mask = trained.preprocessing.padded(jets[:20])
    out = trained.model.loss(features, mask)
    tokens = trained.encode(jets[:20])
    counts = np.bincount(np.concatenate([t[1:-1].to_numpy() for t in tokens]) - 1, minlength=64)
    p = counts[counts > 0] / counts.sum()
    assert out["n_particles"] == counts.sum()
    assert out["code_use"] == np.float32((counts > 0).mean())
    np.testing.assert_allclose(out["perplexity"], np.exp(-(p * np.log(p)).sum()), rtol=1e-5)


def test_running_means_follow_the_latents():
    """One code per cluster converges to the mean of its cluster."""
    torch.manual_seed(1)
    quantizer = make(dim=2, codes=2, decay=0.5).train()
    centres = torch.tensor([[3.0, 0.0], [-3.0, 0.0]])
    for shift in (0.0, *[1.0] * 40):
        which = torch.arange(400) % 2
        quantizer(centres[which] + shift + 0.1 * torch.randn(400, 2))
    found = quantizer.codebook[quantizer.codebook[:, 0].argsort(descending=True)]
    torch.testing.assert_close(found, centres + 1.0, atol=0.05, rtol=0)


def test_search_equals_all_distances():
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(300, 4, generator=generator)
    latents = torch.randn(500, 4, generator=generator)
    codes, margin = NearestCodes(codebook)(latents)
    nearest = torch.cdist(latents.double(), codebook.double()).topk(2, largest=False)
    np.testing.assert_array_equal(codes, nearest.indices[:, 0])
    np.testing.assert_allclose(margin, nearest.values[:, 1] - nearest.values[:, 0], atol=1e-12)


def test_training_and_search_choose_the_same_codes():
    torch.manual_seed(2)
    quantizer = make().train()
    quantizer(torch.randn(500, 4))
    latents = torch.randn(200, 4)
    expected = quantizer.search()(latents)[0]  # before the training pass moves the codes
    np.testing.assert_array_equal(quantizer(latents).codes, expected)


def test_evaluation_never_touches_the_codebook():
    torch.manual_seed(3)
    quantizer = make().train()
    quantizer(torch.randn(500, 4))
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer.eval()(torch.randn(100, 4) + 50)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_gradient_reaches_the_latents():
    torch.manual_seed(4)
    quantizer = make().train()
    latents = torch.randn(100, 4, requires_grad=True)
    quantizer(latents).vectors.square().sum().backward()
    assert (latents.grad.abs().sum(1) > 0).all()
