"""Cost of training the sizes of the ladder: FLOPs, memory, compute-optimal data, time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from eval.scaling import Estimate, FitResult, Frontier
from genscale.errors import InputError
from genscale.models.counting import ParameterCount, count_parameters, generator_flops
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.ladder import LADDER, generator_config, learning_rate

#: Compute-optimal training tokens per parameter of language models (Hoffmann et al., arXiv:2203.15556). It need not
#: hold for jets, and is used only until a fitted law is given.
TOKENS_PER_PARAMETER: Final = 20.0

#: Bytes per parameter in training: the parameter, its gradient and AdamW's two moments, in float32.
TRAINING_BYTES: Final = 16


@dataclass(frozen=True)
class Cost:
    """Cost of one size.

    Attributes
    ----------
    size : str
        Rung of the ladder, or ``omnijet``.
    config : GeneratorConfig
        Its configuration.
    parameters : ParameterCount
        Its parameters, by part.
    flops_per_token : float
        Training FLOPs per token, counted from the architecture.
    training_bytes : float
        Weights, gradients and AdamW's moments in float32, and activations (see `activation_bytes`).
    jets : Estimate
        Compute-optimal number of jets D.
    flops : float
        Training FLOPs at this D.
    """

    size: str
    config: GeneratorConfig
    parameters: ParameterCount
    flops_per_token: float
    training_bytes: float
    jets: Estimate
    flops: float


def activation_bytes(config: GeneratorConfig, tokens: float) -> float:
    """Return the bytes of float32 activations kept for the backward pass, ``4 tokens ((9 + m) n_layers + 3) d_model``.

    Per block and token, in units of ``d_model``, these are the inputs of the two norms (2), of the projections to and
    from queries, keys and values (2), and of the MLP (1), the queries, keys and values (3), and the output of
    attention (1). The MLP adds ``m`` = 2 ``mlp_ratio`` (before and after the activation), or 4 ``mlp_ratio`` with
    SwiGLU's gate. Outside the blocks there are the embedding and the final norm. Attention is fused and the head works
    in chunks, so that neither scores nor logits are kept. (Blocks that are fused on a CPU,
    `genscale.models.fused`, do keep the probabilities, one number per head and pair of tokens, and one
    ``d_model`` less per token.)
    """
    mlp = (4 if config.activation == "swiglu" else 2) * config.mlp_ratio
    return 4.0 * tokens * ((9 + mlp) * config.n_layers + 3) * config.d_model


def cost(
    size: str, vocab_size: int, tokens_per_jet: float, *, batch_jets: int = 64, law: FitResult | None = None
) -> Cost:
    """Return the cost of a size of the ladder.

    Parameters
    ----------
    size : str
        Rung of the ladder, or ``omnijet``.
    vocab_size : int
        Number of tokens, including start and stop tokens.
    tokens_per_jet : float
        Mean number of target tokens of a jet.
    batch_jets : int
        Number of jets on one device in a step.
    law : FitResult, optional
        Law of N (all parameters) and D (jets). Without one, D is TOKENS_PER_PARAMETER N / tokens_per_jet.

    Returns
    -------
    Cost

    Raises
    ------
    eval.common.errors.InputError
        The law does not depend on both N and D.
    """
    config = generator_config(size, vocab_size)
    with torch.device("meta"):  # no memory is allocated: the largest has hundreds of millions of parameters
        n = count_parameters(Generator(config))
    jets = 1000
    flops_per_token = generator_flops(config, jets, round(jets * tokens_per_jet)) / (jets * tokens_per_jet)
    activations = activation_bytes(config, batch_jets * tokens_per_jet)
    if law is None:
        best = Estimate(TOKENS_PER_PARAMETER * n.total / tokens_per_jet)
    else:
        line = Frontier.of(law)
        data = (n.total / line.G) ** (line.b / line.a) / line.G  # D on the line of compute-optimal (N, D)
        best = Estimate.from_samples(data[0], data[1:]).judged("scale")
    flops = best.value * tokens_per_jet * flops_per_token
    return Cost(size, config, n, flops_per_token, TRAINING_BYTES * n.total + activations, best, flops)


def describe(
    vocab_size: int,
    tokens_per_jet: float,
    *,
    batch_jets: int = 64,
    flops_per_second: float | None = None,
    fit: Path | None = None,
) -> str:
    """Return two tables of all sizes as text, parameters and costs, with the rules behind them.

    Parameters
    ----------
    vocab_size : int
        As for `cost`.
    tokens_per_jet : float
        As for `cost`.
    batch_jets : int
        As for `cost`.
    flops_per_second : float, optional
        Sustained rate of the device, for training times.
    fit : Path, optional
        File of a fitted law of N and D, as for `cost`.

    Returns
    -------
    str

    Raises
    ------
    InputError
        The rate is not positive.
    eval.common.errors.InputError
        The file does not hold a law of N and D.
    """
    if flops_per_second is not None and not flops_per_second > 0:
        raise InputError(f"--flops-per-second {flops_per_second}: must be positive")
    law = None if fit is None else FitResult.from_json(fit)
    costs = [
        cost(size, vocab_size, tokens_per_jet, batch_jets=batch_jets, law=law)
        for size in [*LADDER, "omnijet"]
    ]
    lines = [
        f"{'size':8s} {'width':>6s} {'layers':>6s} {'heads':>5s} {'embedding':>12s} {'blocks':>12s} {'head':>10s} "
        f"{'N':>12s} {'rate':>8s}"
    ]
    lines += [
        f"{c.size:8s} {c.config.d_model:6d} {c.config.n_layers:6d} {c.config.n_heads:5d} "
        f"{c.parameters.embedding:12,d} {c.parameters.blocks:12,d} {c.parameters.head:10,d} {c.parameters.total:12,d} "
        f"{learning_rate(c.size):8.2g}"
        for c in costs
    ]
    hours = "" if flops_per_second is None else f" {'hours':>9s}"
    lines += [
        "",
        f"{'size':8s} {'FLOPs/token':>12s} {'6N':>9s} {'weights':>10s} {'training':>10s} {'best D':>9s} "
        f"{'FLOPs':>9s}{hours}" + ("  68 % interval of D" if law and law.samples is not None else ""),
    ]
    for c in costs:
        time = "" if flops_per_second is None else f" {c.flops / flops_per_second / 3600:9.3g}"
        interval = "" if c.jets.ci68 is None else f"  {c.jets.ci68[0]:.2g} to {c.jets.ci68[1]:.2g}"
        interval += f" (not identified: {c.jets.reason})" if c.jets.reason else ""
        lines.append(
            f"{c.size:8s} {c.flops_per_token:12.3g} {6 * c.parameters.total:9.3g} "
            f"{_bytes(4 * c.parameters.total):>10s} {_bytes(c.training_bytes):>10s} {c.jets.value:9.3g} "
            f"{c.flops:9.3g}{time}{interval}"
        )
    rule = (
        f"{TOKENS_PER_PARAMETER:g} tokens per parameter, the rule for language models of Hoffmann et al. "
        "(arXiv:2203.15556); give --fit for one of jets"
        if fit is None
        else f"from {fit}: with this D, the size's N is the compute-optimal one"
    )
    lines += [
        "",
        f"vocabulary {vocab_size:,}, {tokens_per_jet:g} tokens per jet; D in jets, N all parameters",
        "rate: default peak learning rate (docs/generator.md)",
        "FLOPs/token: training, counted from the architecture, attention and head included; 6N beside it",
        f"training memory: {TRAINING_BYTES} bytes per parameter (float32 weight, gradient, AdamW's two moments) and "
        f"the activations of {batch_jets} jets, 4 tokens ((9 + 2 mlp_ratio) layers + 3) width bytes",
        f"best D: {rule}",
    ]
    return "\n".join(lines)


def _bytes(n: float) -> str:
    return f"{n / 2**20:.1f} MiB" if n < 2**30 else f"{n / 2**30:.1f} GiB"
