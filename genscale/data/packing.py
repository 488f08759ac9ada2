"""Jets of different lengths in one flat batch: no computation on padding.

A batch is a flat tensor with one row per real token (or particle); linear layers, norms and losses work
on it directly and never see padding. Only attention needs the jets apart: it works on groups of jets of
similar length, each padded to the longest of its group, and returns to the flat layout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Jets that share an attention call. On a CPU few, so that hardly a slot is padding; on a GPU calls cost more. Of 8, 16
#: and 32, generators from pico to small and taggers of width 4 to 64 train fastest with 16, or as fast to 5 %.
JETS_PER_GROUP_CPU = 16
JETS_PER_GROUP_GPU = 128


Shapes = tuple[tuple[int, int], ...]


class _ToGroups(torch.autograd.Function):
    """Flat rows to padded groups, each row cut into equal parts: one output ``[jets, longest, width / parts]`` for
    each part of each group, group by group.

    This is one gather there and one back. Autograd's own backward of such indexing is a scatter-add, that of the cuts
    an array of zeros for each of them; on a CPU both cost more than the attention itself.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, to_slots: Tensor, to_flat: Tensor, shapes: Shapes, parts: int
    ) -> tuple[Tensor, ...]:
        ctx.parts = parts
        ctx.save_for_backward(to_flat)
        slots = rows.index_select(0, to_slots).split([jets * longest for jets, longest in shapes])
        groups = [group.view(*shape, -1) for group, shape in zip(slots, shapes, strict=True)]
        return tuple(part for group in groups for part in group.chunk(parts, dim=-1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (to_flat,) = ctx.saved_tensors
        groups = [torch.cat(grads[i : i + ctx.parts], dim=-1) for i in range(0, len(grads), ctx.parts)]
        slots = torch.cat([group.flatten(0, 1) for group in groups])
        return slots.index_select(0, to_flat), None, None, None, None


class _ToFlat(torch.autograd.Function):
    """Slots of all groups ``[slots, width]`` to flat rows; padding gets no gradient."""

    @staticmethod
    def forward(ctx: Any, slots: Tensor, to_flat: Tensor, to_slots: Tensor, is_padding: Tensor) -> Tensor:
        ctx.save_for_backward(to_slots, is_padding)
        return slots.index_select(0, to_flat)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        to_slots, is_padding = ctx.saved_tensors
        slots = grad.index_select(0, to_slots)
        return slots.masked_fill_(is_padding[:, None], 0.0), None, None, None


@dataclass(frozen=True)
class Groups:
    """Jets of similar length that share an attention call, each padded to the longest of its group.

    Attributes
    ----------
    shapes : tuple of (jets, longest)
        Consecutive jets make a group.
    to_slots : Tensor [slots]
        Flat row in each slot of the groups, one group after another (any row of the jet where there is padding).
    to_flat : Tensor [n_tokens]
        Slot of each flat row.
    is_padding : Tensor of bool [slots]
    """

    shapes: Shapes
    to_slots: Tensor
    to_flat: Tensor
    is_padding: Tensor

    @staticmethod
    def of(lengths: np.ndarray, jets_per_group: int) -> Groups:
        """Groups of so many consecutive jets."""
        starts = np.cumsum(lengths) - lengths
        shapes, rows, is_real = [], [], []
        for low in range(0, len(lengths), jets_per_group):
            here = slice(low, low + jets_per_group)
            place, length = np.arange(lengths[here].max()), lengths[here, None]
            shapes.append((len(length), len(place)))
            rows.append((starts[here, None] + np.minimum(place, length - 1)).ravel())
            is_real.append((place < length).ravel())
        padding = ~np.concatenate(is_real)
        slots = np.concatenate(rows), np.flatnonzero(~padding), padding
        return Groups(tuple(shapes), *map(torch.from_numpy, slots))

    def each(self, change: Callable[[Tensor], Tensor]) -> Groups:
        """The same groups with every tensor changed, such as moved to a device."""
        return Groups(self.shapes, *map(change, (self.to_slots, self.to_flat, self.is_padding)))


@dataclass(frozen=True)
class Packing:
    """How the jets of one batch lie in its flat tensors, and in the padded groups that attention works on.

    Attributes
    ----------
    lengths : Tensor of int64 [jets]
        Tokens of each jet, in the order in which they lie in the flat batch.
    starts : Tensor of int64 [jets]
        First flat row of each jet.
    jets_per_group : int
        Jets that share an attention call.
    """

    lengths: Tensor
    starts: Tensor
    jets_per_group: int

    @staticmethod
    def build(
        lengths: np.ndarray, device: torch.device | str = "cpu", jets_per_group: int | None = None
    ) -> Packing:
        """Lay out jets of these lengths (best in falling or rising order, so that groups waste little)."""
        lengths = np.ascontiguousarray(lengths, dtype=np.int64)
        if lengths.size == 0 or lengths.min() < 1:
            raise ValueError("a packed batch needs at least one jet, and every jet at least one token")
        starts = np.cumsum(lengths) - lengths
        packing = Packing.of(torch.from_numpy(lengths), torch.from_numpy(starts), jets_per_group)
        return packing.to(device)

    @staticmethod
    def of(lengths: Tensor, starts: Tensor, jets_per_group: int | None = None) -> Packing:
        """Lay out jets on the CPU whose lengths and starts are known to fit."""
        if jets_per_group is None:
            # A batch is laid out on the CPU, whatever it goes to next; training takes a GPU if there is one.
            jets_per_group = JETS_PER_GROUP_GPU if torch.cuda.is_available() else JETS_PER_GROUP_CPU
        return Packing(lengths, starts, jets_per_group)

    @functools.cached_property
    def groups(self) -> Groups:
        """Groups for attention: made when first asked for, because fused blocks need none."""
        return Groups.of(self.lengths.numpy(), self.jets_per_group)

    def positions(self, n_tokens: int) -> Tensor:
        """Position of each row within its jet, [n_tokens]; given their number, the host need not wait for a GPU."""
        first = self.starts.repeat_interleave(self.lengths, output_size=n_tokens)
        return torch.arange(n_tokens, device=first.device) - first

    def to(self, device: torch.device | str) -> Packing:
        """The same packing on a device."""
        if self.lengths.device == torch.device(device):
            return self
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Packing:
        """The same packing in memory from which a GPU copies without waiting."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Packing:
        packing = Packing(change(self.lengths), change(self.starts), self.jets_per_group)
        packing.__dict__["groups"] = self.groups.each(change)  # they can only be made on the CPU
        return packing

    def attend(self, rows: Tensor, attention: Callable[..., Tensor], parts: int = 3) -> Tensor:
        """Apply ``attention`` to each group and bring the result back to flat rows.

        Parameters
        ----------
        rows : Tensor, shape (n_tokens, width)
            Queries, keys and values side by side (in general, ``parts`` of equal width).
        attention : callable
            Maps the parts of a group, each of shape (n_jets, longest, width / parts), and its padding, shape (n_jets,
            longest), True for padding, to an output of shape (n_jets, longest, width_out). The output for padding is
            ignored.
        parts : int
            Number of parts.

        Returns
        -------
        Tensor, shape (n_tokens, width_out)
        """
        groups = self.groups
        pieces = _ToGroups.apply(rows, groups.to_slots, groups.to_flat, groups.shapes, parts)
        padding = groups.is_padding.split([jets * longest for jets, longest in groups.shapes])
        slots = [
            attention(*pieces[i * parts : (i + 1) * parts], mask.view(shape)).flatten(0, 1)
            for i, (mask, shape) in enumerate(zip(padding, groups.shapes, strict=True))
        ]
        return _ToFlat.apply(torch.cat(slots), groups.to_flat, groups.to_slots, groups.is_padding)
