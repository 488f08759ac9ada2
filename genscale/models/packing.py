"""Jets of different lengths in one flat batch: no computation on padding.

A batch is a flat tensor with one row per real token (or particle); linear layers, norms and losses work
on it directly and never see padding. Only attention needs the jets apart: it works on groups of jets of
similar length, each padded to the longest of its group, and returns to the flat layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


class _Gather(torch.autograd.Function):
    """``rows[index]`` for an index that hits each row once, plus padding slots that must carry no gradient.

    Autograd's own backward of indexing is a scatter-add, many times slower on CPU than this gather.
    """

    @staticmethod
    def forward(rows: Tensor, index: Tensor, inverse: Tensor, padding: Tensor | None) -> Tensor:
        return rows.index_select(0, index)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
        _, _, inverse, padding = inputs
        ctx.save_for_backward(inverse, padding)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
        inverse, padding = ctx.saved_tensors  # type: ignore[attr-defined]
        grad = grad.contiguous().index_select(0, inverse)
        if padding is not None:
            grad = grad.masked_fill_(padding[:, None], 0.0)
        return grad, None, None, None


@dataclass(frozen=True)
class Group:
    """Jets attended together: flat rows ``first .. first + n_tokens`` as a ``[jets, longest]`` block."""

    first: int
    n_tokens: int
    shape: tuple[int, int]
    to_padded: Tensor  # [jets * longest] row of the group's flat slice (row 0 where padding)
    to_flat: Tensor  # [n_tokens] slot of the padded block
    padding: Tensor | None  # [jets * longest] True where padding; None if there is none


@dataclass(frozen=True)
class Packing:
    """How the jets of one batch lie in its flat tensors.

    Attributes
    ----------
    lengths : Tensor [jets]
        Tokens of each jet, in the order in which they lie in the flat batch.
    starts : Tensor [jets]
        First flat row of each jet.
    positions : Tensor [n_tokens]
        Position of each row within its jet.
    groups : tuple of Group
        Consecutive jets that share an attention call.
    """

    lengths: Tensor
    starts: Tensor
    positions: Tensor
    groups: tuple[Group, ...]

    @staticmethod
    def build(lengths: np.ndarray, device: torch.device | str = "cpu", jets_per_group: int = 16) -> Packing:
        """Lay out jets of these lengths (best in falling or rising order, so that groups waste little)."""
        lengths = np.asarray(lengths, dtype=np.int64)
        if lengths.size == 0 or lengths.min() < 1:
            raise ValueError("a packed batch needs at least one jet, and every jet at least one token")
        ends = np.cumsum(lengths)
        starts = ends - lengths

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

        groups = []
        for low in range(0, len(lengths), jets_per_group):
            here = lengths[low : low + jets_per_group]
            first, longest, total = int(starts[low]), int(here.max()), int(here.sum())
            real = np.arange(longest)[None, :] < here[:, None]
            to_padded = np.zeros(real.shape, dtype=np.int64)
            to_padded[real] = np.arange(total)
            padding = None if real.all() else tensor(~real.ravel())
            groups.append(
                Group(
                    first,
                    total,
                    (len(here), longest),
                    tensor(to_padded.ravel()),
                    tensor(np.flatnonzero(real)),
                    padding,
                )
            )
        positions = np.arange(int(ends[-1])) - np.repeat(starts, lengths)
        return Packing(tensor(lengths), tensor(starts), tensor(positions), tuple(groups))

    def attend(self, rows: Tensor, attention: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        """Apply ``attention`` to each group as a padded block and bring the result back to flat rows.

        Parameters
        ----------
        rows : Tensor [n_tokens, width]
        attention : callable
            Maps a block ``[jets, longest, width]`` and its padding mask ``[jets, longest]`` (True where
            padding; None if there is none) to ``[jets, longest, width_out]``. Its output on padding is ignored.

        Returns
        -------
        Tensor [n_tokens, width_out]
        """
        parts = []
        for group in self.groups:
            flat = rows.narrow(0, group.first, group.n_tokens)
            block = _Gather.apply(flat, group.to_padded, group.to_flat, None).view(*group.shape, -1)
            mask = None if group.padding is None else group.padding.view(group.shape)
            out = attention(block, mask)
            parts.append(_Gather.apply(out.flatten(0, 1), group.to_flat, group.to_padded, group.padding))
        return parts[0] if len(parts) == 1 else torch.cat(parts)
