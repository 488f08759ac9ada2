import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genscale.data.packing import Packing
from genscale.models.blocks import Block, SelfAttention, mlp_weights

LENGTHS = (7, 5, 5, 2, 1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n_heads", [1, 4])
@pytest.mark.parametrize("jets_per_group", [1, 2, 8])
def test_attention_and_its_gradient_are_those_of_each_jet_alone(causal, n_heads, jets_per_group):
    torch.manual_seed(0)
    attention = SelfAttention(12, n_heads, causal=causal, qkv_bias=True, dropout=0.0).double()
    rows = torch.randn(sum(LENGTHS), 12, dtype=torch.float64, requires_grad=True)
    together = attention(rows, Packing.build(np.array(LENGTHS), jets_per_group=jets_per_group))
    alone = []
    # Written out: nothing to pad, and nothing to mask but the future.
    for jet in attention.qkv(rows).split(LENGTHS):
        q, k, v = (part.unflatten(1, (n_heads, -1)).transpose(0, 1) for part in jet.chunk(3, dim=1))
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        if causal:
            scores = scores + torch.full(scores.shape[1:], -torch.inf, dtype=torch.float64).triu(1)
        alone.append((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    expected = attention.out(torch.cat(alone))
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(together)
    gradients = [torch.autograd.grad((out * weights).sum(), rows)[0] for out in (together, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


def test_dropout_acts_in_training_alone_and_keeps_the_mean():
    torch.manual_seed(0)
    block, packing = Block(8, 2, causal=False, dropout=0.2).double(), Packing.build(np.array(LENGTHS))
    rows = torch.randn(sum(LENGTHS), 8, dtype=torch.float64)
    attention = block.attention
    with torch.no_grad():
        draws = torch.stack([attention(rows, packing) for _ in range(1000)])
        assert not torch.equal(block(rows, packing), block(rows, packing))
        block.eval()
        pulls = (draws.mean(0) - attention(rows, packing)) / (draws.std(0) / len(draws) ** 0.5)
        assert torch.equal(block(rows, packing), block(rows, packing))
    assert pulls.abs().max() < 5
    assert 0.7 < pulls.std() < 1.3


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "swiglu"])
def test_mlp_weights_are_what_a_block_has(activation):
    block = Block(8, 2, causal=False, activation=activation, mlp_ratio=2)
    count = sum(p.numel() for name, p in block.named_parameters() if name in ("up.weight", "down.weight"))
    assert count == mlp_weights(8, 2, activation)


def test_blocks_with_swiglu_give_the_published_size():
    # Uslu et al., arXiv:2606.19781: four layers of width 512 have 10.5 million parameters.
    blocks = [Block(512, 64, causal=False, activation="swiglu", mlp_ratio=2) for _ in range(4)]
    total = sum(p.numel() for block in blocks for p in block.parameters())
    assert total == pytest.approx(10.5e6, rel=0.005)


def test_swiglu_is_the_gated_product_of_two_linear_layers():
    torch.manual_seed(0)
    block = Block(4, 1, causal=False, norm="post", activation="swiglu", mlp_ratio=2).double()
    with torch.no_grad():  # without attention, the block is the MLP alone
        block.attention.out.weight.zero_()
        block.attention.out.bias.zero_()
    rows = torch.randn(3, 4, dtype=torch.float64)
    x = F.layer_norm(rows, (4,))
    w_gate, w_value = block.up.weight[:8], block.up.weight[8:]
    b_gate, b_value = block.up.bias[:8], block.up.bias[8:]
    gate = x @ w_gate.T + b_gate
    hidden = gate / (1 + torch.exp(-gate)) * (x @ w_value.T + b_value)
    expected = F.layer_norm(x + hidden @ block.down.weight.T + block.down.bias, (4,))
    torch.testing.assert_close(block(rows, Packing.build(np.array([3]))), expected)
