"""Transformer blocks on a CPU in one call, forward and backward, from C that is compiled when first needed.

A training step of a small model is some hundred operations of torch on a few thousand numbers each, and starting them
takes longer than computing them. Here all blocks are one operation. It works on packed rows, jet by jet, so that
nothing is padded; on one thread it is faster than torch's operations for every width that was measured.

The library is kept in the user's cache folder, one for each processor and version of the source. Where no C compiler is
found, torch's operations do the same, only slower.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genscale.data.packing import Packing

SOURCE = Path(__file__).with_name("fused.c")

#: Sums may be reordered. Not -ffast-math, which on loading would change how the whole process treats tiny numbers.
FLAGS = (
    "-O3", "-shared", "-fPIC", "-Wno-psabi", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math",
    "-fno-math-errno", "-freciprocal-math", "-ffp-contract=fast",
)  # fmt: skip

#: With several threads torch's operations catch up: up to this width one thread of ours is faster than two of theirs.
WIDEST_OF_SEVERAL_THREADS = 64

#: Tokens up to which the head is computed here, too: its logits must fit into a cache by the tens.
WIDEST_VOCABULARY = 2048

#: Parameters of a block, in the order in which it registers them and in which the library takes them.
WEIGHTS_OF_A_BLOCK = 12


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("jets", "rows", "width", "heads", "hidden")),
        ("causal", ctypes.c_int32),
        ("tanh_gelu", ctypes.c_int32),
        ("lengths", ctypes.c_void_p),
    )


def available(rows: Tensor) -> bool:
    """Whether blocks on these rows can be computed here: float32 on a CPU, with a compiler and no autocast."""
    return (
        rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and (rows.shape[1] <= WIDEST_OF_SEVERAL_THREADS or torch.get_num_threads() == 1)
        and _library() is not None
    )


def fused_blocks(
    rows: Tensor,
    packing: Packing,
    weights: Sequence[Tensor | None],
    *,
    n_heads: int,
    causal: bool,
    tanh_gelu: bool,
    gradient: Tensor | None = None,
) -> Tensor:
    """Apply pre-norm blocks with GELU and without dropout to packed rows ``[n_tokens, d]``.

    Parameters
    ----------
    rows : Tensor, shape (n_tokens, d)
        Packed rows.
    packing : Packing
        Their layout.
    weights : sequence of Tensor or None
        Weights of norm1, attention.qkv, attention.out, norm2, up and down, each followed by its bias (None if there is
        none), block by block; see `genscale.models.blocks.Block`.
    n_heads : int
        Attention heads per block.
    causal : bool
        Whether attention is causal.
    tanh_gelu : bool
        Whether GELU is approximated with tanh.
    gradient : Tensor, optional
        Vector to which the gradient of all weights, one after another, is added in the backward pass; autograd then
        sees none of them. Without it they have gradients as usual, one by one.

    Returns
    -------
    Tensor, shape (n_tokens, d)
    """
    hidden = weights[8]
    assert hidden is not None
    shape = _Shape(
        len(packing.lengths), *rows.shape, n_heads, len(hidden), causal, tanh_gelu, packing.lengths.data_ptr()
    )
    return _Blocks.apply(rows, shape, packing.lengths, torch.is_grad_enabled(), gradient, *weights)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        shape: _Shape,
        lengths: Tensor,
        with_gradient: bool,
        gradient: Tensor | None,
        *weights: Tensor | None,
    ) -> Tensor:
        library, rows = _library(), rows.contiguous()
        n_blocks = len(weights) // WEIGHTS_OF_A_BLOCK
        here = ctypes.byref(shape)
        out = torch.empty_like(rows)
        saved = rows.new_empty(library.saved_size(here) * (n_blocks if with_gradient else min(2, n_blocks)))
        scratch = rows.new_empty(library.scratch_size(here))
        pointers = _pointers([None if w is None else w.data_ptr() for w in weights])
        library.forward(
            here, n_blocks, rows.data_ptr(), pointers, saved.data_ptr(), with_gradient, out.data_ptr(),
            scratch.data_ptr(),
        )  # fmt: skip
        if with_gradient:
            ctx.shape, ctx.pointers, ctx.gradient = shape, pointers, gradient
            ctx.save_for_backward(rows, lengths, saved, scratch, *weights)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, _, saved, scratch, *weights = ctx.saved_tensors
        grad, grad_rows = grad.contiguous(), torch.empty_like(rows)
        sizes = [0 if w is None else w.numel() for w in weights]
        vector = rows.new_empty(sum(sizes))
        places = accumulate(sizes[:-1], initial=0)
        base, width = vector.data_ptr(), vector.itemsize
        pointers = _pointers(
            [None if w is None else base + width * p for w, p in zip(weights, places, strict=True)]
        )
        _library().backward(
            ctypes.byref(ctx.shape), len(weights) // WEIGHTS_OF_A_BLOCK, rows.data_ptr(), ctx.pointers,
            saved.data_ptr(), grad.data_ptr(), grad_rows.data_ptr(), pointers, scratch.data_ptr(),
        )  # fmt: skip
        if ctx.gradient is not None:
            ctx.gradient += vector
            return grad_rows, *[None] * (4 + len(weights))
        parts = zip(weights, vector.split(sizes), strict=True)
        return grad_rows, *[None] * 4, *[None if w is None else part.view(w.shape) for w, part in parts]


def head_available(hidden: Tensor, weight: Tensor) -> bool:
    """Whether `fused_head` is faster: for vocabularies of which many rows of logits fit into a cache."""
    return len(weight) <= WIDEST_VOCABULARY and available(hidden)


def fused_head(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, with_gradient: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Compute the negative log-likelihoods of the targets, and the gradients of their sum if wanted.

    Parameters
    ----------
    hidden : Tensor, shape (n_tokens, d)
        Inputs of the head.
    weight : Tensor, shape (vocab_size, d)
        Weight of the head.
    bias : Tensor, shape (vocab_size,), or None
        Bias of the head.
    targets : Tensor of int64, shape (n_tokens,)
        Target tokens.
    with_gradient : bool
        Whether gradients are computed.

    Returns
    -------
    nats : Tensor, shape (n_tokens,)
        Negative log-likelihood of each target.
    grad_hidden : Tensor or None
        Gradient with respect to ``hidden``.
    grad_weight : Tensor or None
        Gradient with respect to ``weight``.
    grad_bias : Tensor or None
        Gradient with respect to ``bias``.
    """
    library, (n, d), vocab_size = _library(), hidden.shape, len(weight)
    hidden, weight, targets = hidden.contiguous(), weight.contiguous(), targets.contiguous()
    nats, scratch = hidden.new_empty(n), hidden.new_empty(library.head_scratch_size(d, vocab_size))
    grads = [torch.empty_like(t) if with_gradient and t is not None else None for t in (hidden, weight, bias)]
    pointers = (
        None if t is None else t.data_ptr() for t in (hidden, weight, bias, targets, nats, *grads, scratch)
    )
    library.head(n, d, vocab_size, *pointers)
    return nats, grads[0], grads[1], grads[2]


def _pointers(addresses: Sequence[int | None]) -> Any:
    return (ctypes.c_void_p * len(addresses))(*addresses)


# -- the library ---------------------------------------------------------------------------------------------------


@functools.cache
def _library() -> Any:
    """The compiled library; None without a compiler, which is said once."""
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        warnings.warn(f"no C compiler that works (CC, cc): small models train slower; {said}", stacklevel=2)
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.saved_size.argtypes = library.scratch_size.argtypes = [pointer]
    library.saved_size.restype = library.scratch_size.restype = count
    library.forward.argtypes = [pointer, count, pointer, pointer, pointer, ctypes.c_int32, pointer, pointer]
    library.backward.argtypes = [pointer, count, *[pointer] * 7]
    library.head_scratch_size.argtypes, library.head_scratch_size.restype = [count, count], count
    library.head.argtypes = [count, count, count, *[pointer] * 9]
    library.head.restype = None
    library.forward.restype = library.backward.restype = None
    return library


def _compiled() -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("none found")
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    command = [*compiler.split(), *FLAGS, native, str(SOURCE), "-lm", "-o"]
    known = hashlib.sha256("\n".join([_processor(), *command, SOURCE.read_text()]).encode()).hexdigest()[:16]
    for folder in (_cache_folder(), Path(tempfile.gettempdir()) / f"genscale-{os.getuid()}"):
        library = folder / f"fused-{known}.so"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not library.exists():
                aside = folder / f".{library.name}.{os.getpid()}"
                subprocess.run([*command, str(aside)], check=True, capture_output=True, text=True)
                aside.replace(library)  # whole or not at all, whoever else is at it
            return library
        except (PermissionError, FileExistsError):
            continue
    raise OSError("no folder to keep the compiled library in")


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genscale"


def _processor() -> str:
    """What the library is compiled for: nodes of a cluster may share a home folder, and not a processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    except OSError:
        return platform.processor() or platform.machine()
