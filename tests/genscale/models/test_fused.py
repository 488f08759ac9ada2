import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genscale.data.packing import Packing
from genscale.models import fused
from genscale.models.blocks import Block, Blocks

needs_compiler = pytest.mark.skipif(not fused.available(torch.zeros(1, 1)), reason="no C compiler")


def some_blocks(width, n_heads, n_blocks=2, **options) -> Blocks:
    torch.manual_seed(width)
    blocks = Blocks(Block(width, n_heads, **options) for _ in range(n_blocks))
    with torch.no_grad():  # norms other than one and zero, biases other than zero
        for parameter in blocks.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return blocks


def one_by_one(blocks, rows, packing):
    for block in blocks:
        rows = block(rows, packing)
    return rows


@needs_compiler
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    width=st.sampled_from([(4, 1), (6, 2), (16, 1), (16, 2), (20, 5), (40, 2), (48, 3)]),
    causal=st.booleans(),
    activation=st.sampled_from(["gelu", "gelu_tanh"]),
    mlp_ratio=st.sampled_from([1, 2, 4]),
    qkv_bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_values_and_gradients_are_those_of_torch(lengths, width, causal, activation, mlp_ratio, qkv_bias):
    blocks = some_blocks(*width, causal=causal, activation=activation, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias)
    packing = Packing.build(np.array(lengths))
    rows = torch.randn(sum(lengths), width[0], requires_grad=True)
    assert fused.available(rows)
    ours, theirs = blocks(rows, packing), one_by_one(blocks, rows, packing)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weights, wanted = torch.randn_like(ours), [rows, *blocks.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), wanted) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-6)


@needs_compiler
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_gradients_are_added_to_a_vector_in_the_order_of_the_parameters(qkv_bias):
    blocks = some_blocks(8, 2, causal=True, qkv_bias=qkv_bias)
    packing, rows = Packing.build(np.array([4, 3])), torch.randn(7, 8)
    blocks(rows, packing).square().sum().backward()
    expected = torch.cat([p.grad.flatten() for p in blocks.parameters()])
    blocks.zero_grad()
    blocks.gradient = torch.ones_like(expected)
    blocks(rows, packing).square().sum().backward()
    torch.testing.assert_close(blocks.gradient, 1 + expected)
    assert all(p.grad is None for p in blocks.parameters())


@needs_compiler
def test_large_numbers_stay_finite_and_right():
    blocks, packing = some_blocks(16, 2, causal=True), Packing.build(np.array([30, 9]))
    rows = 1e3 * torch.randn(39, 16)
    with torch.no_grad():
        for block in blocks:
            block.attention.qkv.weight *= 30  # scores of some thousands
            block.up.weight *= 30
        torch.testing.assert_close(
            blocks(rows, packing), one_by_one(blocks, rows, packing), rtol=1e-4, atol=1e-2
        )


@needs_compiler
def test_without_gradients_the_numbers_are_the_same():
    blocks, packing = some_blocks(8, 2, n_blocks=5, causal=False), Packing.build(np.array([7, 5, 1]))
    rows = torch.randn(13, 8)
    with torch.no_grad():
        silent = blocks(rows, packing)
    assert torch.equal(silent, blocks(rows, packing).detach())


@needs_compiler
def test_a_jet_does_not_depend_on_the_others():
    blocks = some_blocks(16, 2, causal=False)
    rows = torch.randn(30, 16)
    together = blocks(rows, Packing.build(np.array([17, 13])))
    assert torch.equal(together[17:], blocks(rows[17:], Packing.build(np.array([13]))))


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_a_compiler_torch_computes_the_same_and_says_so(monkeypatch, tmp_path, compiler):
    blocks, packing = some_blocks(8, 2, causal=True), Packing.build(np.array([5, 3]))
    rows = torch.randn(8, 8)
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fused._library.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no C compiler that works"):
            found = blocks(rows, packing)
        with warnings.catch_warnings():  # said once
            warnings.simplefilter("error")
            assert torch.equal(found, blocks(rows, packing))
        assert torch.equal(found, one_by_one(blocks, rows, packing))
    finally:
        fused._library.cache_clear()


@needs_compiler
def test_what_it_cannot_do_is_left_to_torch():
    packing = Packing.build(np.array([5, 3]))
    rows = torch.randn(8, 8)
    for options in ({"norm": "post"}, {"activation": "swiglu"}, {"activation": "relu"}):
        blocks = some_blocks(8, 2, causal=True, **options)
        assert torch.equal(blocks(rows, packing), one_by_one(blocks, rows, packing))
    dropping = some_blocks(8, 2, causal=True, dropout=0.5)
    assert not torch.equal(dropping(rows, packing), dropping(rows, packing))
    assert not fused.available(rows.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.available(rows)
