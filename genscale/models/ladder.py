"""The ladder of generator sizes, Pico to XXL, and the peak learning rates of both tasks.

The names follow Amram et al. (arXiv:2605.28940). The shapes are this project's choice: the non-embedding parameters,
about 12 layers d^2, grow by a factor of four to five from rung to rung.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from genscale.errors import InputError, nearest
from genscale.models.generator import GeneratorConfig


@dataclass(frozen=True)
class Rung:
    """Shape of one size."""

    d_model: int
    n_layers: int
    n_heads: int


LADDER: Final[dict[str, Rung]] = {
    "pico": Rung(16, 2, 2),
    "nano": Rung(32, 2, 2),
    "micro": Rung(64, 2, 4),
    "small": Rung(96, 4, 4),
    "medium": Rung(192, 4, 6),
    "large": Rung(384, 5, 6),
    "xl": Rung(768, 6, 12),
    "xxl": Rung(1024, 16, 16),
}

#: The released OmniJet-alpha generator: 6,570,498 parameters at a vocabulary of 8,194.
OMNIJET: Final[dict[str, Any]] = {
    "norm": "post",
    "activation": "relu",
    "positions": "none",
    "scaled_embedding": False,
    "tied_head": False,
}

#: Peak learning rate of AdamW for 100,000 parameters in blocks, and how it falls with them. Both come from sweeps on
#: simulated jets at 4 to 32 jets per step, among which the best rate hardly differs (docs/results/recipes). That of
#: OmniJet-alpha is the released one.
RATE_AT_1E5: Final = 4.2e-3
RATE_EXPONENT: Final = 0.5
OMNIJET_RATE: Final = 1e-3

#: Peak learning rate of AdamW for taggers times their width (docs/results/recipes).
TAGGER_RATE_TIMES_WIDTH: Final = 0.064


def learning_rate(size: str) -> float:
    """Return the peak learning rate of a generator of this size, which is constant after the warm-up.

    ``RATE_AT_1E5 (N / 1e5)^-RATE_EXPONENT`` with N = 12 layers width^2, whatever the batch.

    Parameters
    ----------
    size : str
        Rung, or ``omnijet``.

    Returns
    -------
    float

    Raises
    ------
    InputError
        There is no such size.
    """
    if size.lower() == "omnijet":
        return OMNIJET_RATE
    shape = generator_config(size, 1)
    blocks = 12 * shape.n_layers * shape.d_model**2
    return _two_digits(RATE_AT_1E5 * (blocks / 1e5) ** -RATE_EXPONENT)


def tagger_learning_rate(d_model: int) -> float:
    """Return the peak learning rate of a tagger of this width, which is constant after the warm-up.

    ``TAGGER_RATE_TIMES_WIDTH / d_model``, whatever the batch: inverse to the width as in the maximal update
    parametrisation (Yang et al., arXiv:2203.03466).

    Parameters
    ----------
    d_model : int

    Returns
    -------
    float
    """
    return _two_digits(TAGGER_RATE_TIMES_WIDTH / d_model)


def _two_digits(rate: float) -> float:
    return float(f"{rate:.2g}")  # the sweeps do not determine more digits


def generator_config(size: str, vocab_size: int, max_tokens: int = 129, **overrides: Any) -> GeneratorConfig:
    """Return the configuration of a rung of the ladder, or of the preset ``omnijet``.

    Parameters
    ----------
    size : str
        Rung, or ``omnijet``.
    vocab_size : int
        Number of tokens, including start and stop tokens.
    max_tokens : int
        Maximal length of a sequence.
    **overrides : Any
        Other values for keys of the configuration.

    Returns
    -------
    GeneratorConfig

    Raises
    ------
    InputError
        There is no such size (the message gives the nearest name), or a value is impossible.
    """
    size = size.lower()
    given = {"vocab_size": vocab_size, "max_tokens": max_tokens}
    if size == "omnijet":
        return GeneratorConfig(
            **{"d_model": 256, "n_layers": 3, "n_heads": 8, **given, **OMNIJET, **overrides}
        )
    if size not in LADDER:
        hint = nearest(size, [*LADDER, "omnijet"])
        raise InputError(f"no generator size {size!r}: known are {', '.join(LADDER)} and omnijet{hint}")
    return GeneratorConfig(**{**asdict(LADDER[size]), **given, **overrides})
