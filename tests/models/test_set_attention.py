import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from genscale.models.dropout import Dropout, dropped_places
from genscale.models.packing import Packing
from genscale.models.set_attention import set_attention

LENGTHS = (7, 5, 5, 2, 1)


def packed(n_heads: int, width: int = 3, jets_per_group: int = 2):
    generator = torch.Generator().manual_seed(n_heads)
    qkv = torch.randn(sum(LENGTHS), 3 * n_heads * width, dtype=torch.float64, generator=generator)
    return qkv.requires_grad_(), Packing.build(np.array(LENGTHS), jets_per_group=jets_per_group)


def jet_by_jet(qkv: torch.Tensor, n_heads: int) -> torch.Tensor:
    """PyTorch's own attention, one jet at a time: nothing to pad, nothing to mask."""
    out = []
    for jet in qkv.split(LENGTHS):
        q, k, v = (part.unflatten(1, (n_heads, -1)).transpose(0, 1) for part in jet.chunk(3, dim=1))
        out.append(F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1))
    return torch.cat(out)


@pytest.mark.parametrize("n_heads", [1, 2, 4])
@pytest.mark.parametrize("jets_per_group", [1, 2, 8])
def test_it_is_attention_within_each_jet_with_its_gradient(n_heads, jets_per_group):
    qkv, packing = packed(n_heads, jets_per_group=jets_per_group)
    ours, theirs = set_attention(qkv, packing, n_heads), jet_by_jet(qkv, n_heads)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((out * weights).sum(), qkv)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


def test_the_gradient_goes_through_the_weights_that_were_kept():
    qkv, packing = packed(2)

    def seeded(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return set_attention(x, packing, 2, dropout=0.3)

    assert not torch.allclose(seeded(qkv), set_attention(qkv, packing, 2))
    assert torch.autograd.gradcheck(seeded, (qkv,), fast_mode=True)


def test_dropping_weights_keeps_the_mean():
    qkv, packing = packed(1)
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([set_attention(qkv, packing, 1, dropout=0.2) for _ in range(1000)])
        error = draws.std(0) / math.sqrt(len(draws))
        pulls = (draws.mean(0) - set_attention(qkv, packing, 1)) / error
    assert pulls.abs().max() < 5
    assert 0.7 < pulls.std() < 1.3


@given(st.integers(1, 3000), st.floats(1e-4, 0.9), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_dropped_places_rise_and_lie_within(n, probability, seed):
    torch.manual_seed(seed)
    places = dropped_places(n, probability)
    assert places.dtype == torch.int64
    assert (places.diff() > 0).all()
    assert len(places) == 0 or 0 <= places[0] <= places[-1] < n


@pytest.mark.parametrize("probability", [0.01, 0.3])
def test_every_place_is_dropped_independently_with_the_probability(probability):
    torch.manual_seed(0)
    n, draws = 50, 8_000
    dropped = torch.zeros(draws, n)
    for row in dropped:
        row[dropped_places(n, probability)] = 1
    error = math.sqrt(probability * (1 - probability) / draws)
    assert ((dropped.mean(0) - probability) / error).abs().max() < 4.5  # the first and the last place, too
    # Neighbours are dropped together as often as chance has it.
    pairs = float((dropped[:, 1:] * dropped[:, :-1]).sum())
    expected = draws * (n - 1) * probability**2
    assert abs(pairs - expected) < 4.5 * math.sqrt(expected * (1 + 2 * probability))
    # As many as a binomial distribution has in one draw.
    assert dropped.sum(1).var().item() == pytest.approx(n * probability * (1 - probability), rel=0.06)


def test_dropout_drops_scales_and_sends_back_the_same():
    torch.manual_seed(0)
    layer, x = Dropout(0.1), torch.randn(400, 30, requires_grad=True)
    y = layer(x)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(0.9, abs=0.015)
    torch.testing.assert_close(y[kept], x[kept] / 0.9)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, kept.float() / 0.9)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
