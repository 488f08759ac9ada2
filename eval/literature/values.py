"""Published numbers on the scaling of models of jets, with their sources.

How one's own runs are compared with them is defined in ``eval.literature.claims``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

VIGL, AMRAM, USLU = "arXiv:2602.15781", "arXiv:2605.28940", "arXiv:2606.19781"
ATLAS = "ATL-SOFT-PUB-2026-002"

#: Variant of the constants of repeated data that belong to generation.
GENERATION = "generation"


@dataclass(frozen=True)
class Constant:
    """A published number, or a placeholder for one that has not been published.

    Attributes
    ----------
    key : str
        Name that this project uses: "alpha", "L_inf", "lambda", ...
    value : float or None
        None where a quantity is measured here and no number was published for it.
    low : float or None
        Lower end of the published interval, if there is one.
    high : float or None
        Upper end of the published interval.
    source : str
        Paper.
    setting : str
        Jets, classes and training that it belongs to.
    variant : str
        Which of several in one setting: inputs, pre-training, or task.
    transfers : bool
        Whether it may be compared across data sets. Exponents and ratios of one task may be, losses and amplitudes may
        not.
    """

    key: str
    value: float | None
    low: float | None
    high: float | None
    source: str
    setting: str
    variant: str = ""
    transfers: bool = True

    def __str__(self) -> str:
        if self.value is None:
            return "no published number"
        ends = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:g}{ends}"


_SINGLE = "JetClass, 10 classes, 21 features, single pass"
_REPEATED = "JetClass, 10 classes, repeated data"
_FINE_TUNED = "JetClass, 10 classes, 9 features"
_FLAVOUR = "small-R jets, b/c/light, single pass"
_TOKENS = "tokens of jets, repeated data"

#: Exponents of the single-pass law of Vigl et al. and their intervals: value, low, high.
_ALPHA, _BETA = (0.44, 0.40, 0.48), (0.22, 0.21, 0.23)

#: L_inf, B_rep and beta_rep of each input configuration of Vigl et al.
_INPUTS = {
    "3 features, 40 particles": (0.74, 5.62, 0.21),
    "21 features, 10 particles": (0.59, 8.69, 0.26),
    "21 features, 40 particles": (0.33, 7.08, 0.23),
    "21 features, 128 particles": (0.32, 5.79, 0.22),
}

#: Exponent of N* ~ C^a after each pre-training of Uslu et al.: IsoFLOP, parametric.
_PRETRAINING = {
    "from scratch": (0.517, 0.539),
    "pre-trained on QCD": (0.526, 0.425),
    "pre-trained on QCD and two-prong jets": (0.265, 0.288),
    "pre-trained on QCD and three- and four-prong jets": (0.283, 0.311),
    "pre-trained on all": (0.224, 0.249),
}


def _size_exponent(
    alpha: tuple[float, float, float], beta: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Propagate published exponents to a = beta/(alpha + beta), the exponent of the compute-optimal size.

    The errors of alpha and beta are taken as independent, because their correlation was not published.
    """
    (x, x_low, x_high), (y, y_low, y_high) = alpha, beta
    by_alpha, by_beta = -y / (x + y) ** 2, x / (x + y) ** 2
    below = hypot(by_alpha * (x_high - x), by_beta * (y - y_low))
    above = hypot(by_alpha * (x - x_low), by_beta * (y_high - y))
    a = y / (x + y)
    return round(a, 2), a - below, a + above


CONSTANTS: tuple[Constant, ...] = (
    Constant("L_inf", 0.32, 0.29, 0.34, VIGL, _SINGLE, transfers=False),
    Constant("A", 11.27, 8.01, 15.14, VIGL, _SINGLE, transfers=False),
    Constant("alpha", *_ALPHA, VIGL, _SINGLE),
    Constant("B", 7.22, 6.66, 7.89, VIGL, _SINGLE, transfers=False),
    Constant("beta", *_BETA, VIGL, _SINGLE),
    Constant("gamma", 0.15, 0.13, 0.16, VIGL, _SINGLE),
    # Not printed beside the others, but implied by them.
    Constant("a", *_size_exponent(_ALPHA, _BETA), VIGL, _SINGLE),
    Constant("lambda", 0.47, None, None, VIGL, _REPEATED),
    Constant("cost", 10.0, None, None, VIGL, _REPEATED),
    *(
        Constant(key, value, None, None, VIGL, _REPEATED, inputs, key == "beta_rep")
        for inputs, values in _INPUTS.items()
        for key, value in zip(("L_inf_rep", "B_rep", "beta_rep"), values, strict=True)
    ),
    *(
        Constant(key, value, None, None, USLU, _FINE_TUNED, start)
        for start, values in _PRETRAINING.items()
        for key, value in zip(("a_isoflop", "a"), values, strict=True)
    ),
    Constant("alpha", 0.68, None, None, ATLAS, _FLAVOUR, transfers=False),
    Constant("beta", 0.07, None, None, ATLAS, _FLAVOUR, transfers=False),
    *(
        Constant(key, None, None, None, "", _TOKENS, GENERATION, transfers=False)
        for key in ("lambda", "beta_rep", "beta_rep - beta", "size slope", "cost")
    ),
)

#: Inputs that stand for a paper's default.
FULL_INPUTS = "21 features, 128 particles"


def published(key: str, source: str = VIGL, variant: str = "") -> Constant:
    """Return a constant of a source.

    Parameters
    ----------
    key : str
        Name of the constant.
    source : str
        The paper.
    variant : str
        Inputs, pre-training or task, if the source has several.

    Returns
    -------
    Constant

    Raises
    ------
    KeyError
        There is no such constant.
    """
    for constant in CONSTANTS:
        if (constant.key, constant.source, constant.variant) == (key, source, variant):
            return constant
    raise KeyError(f"{source} has no {key} {variant}".rstrip())
