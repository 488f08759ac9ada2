import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genscale.models.blocks import Block, mlp_weights
from genscale.models.packing import Packing


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
