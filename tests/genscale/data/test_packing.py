import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genscale.data.packing import Packing

lengths_strategy = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def swap(first, second, padding):
    return torch.cat([3 * second, 2 * first], dim=-1)


@given(lengths_strategy, st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_attend_returns_every_row_to_its_place_with_its_gradient(lengths, jets_per_group):
    packing = Packing.build(np.array(lengths), jets_per_group=jets_per_group)
    rows = torch.randn(sum(lengths), 4, dtype=torch.float64, requires_grad=True)
    out = packing.attend(rows, swap, parts=2)
    assert torch.equal(out, torch.cat([3 * rows[:, 2:], 2 * rows[:, :2]], dim=1))
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    assert torch.equal(rows.grad, torch.cat([2 * weights[:, 2:], 3 * weights[:, :2]], dim=1))


@given(lengths_strategy)
@settings(max_examples=20, deadline=None)
def test_blocks_hold_each_jet_and_say_what_is_padding(lengths):
    packing = Packing.build(np.array(lengths), jets_per_group=4)
    rows = torch.arange(sum(lengths), dtype=torch.float64)[:, None]
    seen = []

    def look(block, padding):
        for jet in range(block.shape[0]):
            seen.append(block[jet, ~padding[jet], 0].tolist())
        return block

    packing.attend(rows, look, parts=1)
    ends = np.cumsum(lengths)
    assert seen == [list(range(e - n, e)) for e, n in zip(ends, lengths, strict=True)]
    assert packing.positions(sum(lengths)).tolist() == [i for n in lengths for i in range(n)]


def test_padding_carries_no_gradient():
    packing = Packing.build(np.array([3, 1]))
    rows = torch.randn(4, 2, requires_grad=True)

    def leak(block, padding):
        # Everything of a block, padding included, enters every output.
        return block + block.sum(dim=(0, 1), keepdim=True) * 0 + torch.where(padding[..., None], 1e9, 0.0)

    out = packing.attend(rows, leak, parts=1)
    assert out.abs().max() < 1e6
    out.sum().backward()
    assert torch.equal(rows.grad, torch.ones_like(rows))


@pytest.mark.parametrize("lengths", [[], [2, 0]])
def test_empty_jets_are_refused(lengths):
    with pytest.raises(ValueError, match="at least one"):
        Packing.build(np.array(lengths, dtype=np.int64))
