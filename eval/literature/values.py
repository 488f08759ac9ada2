"""Numbers that the literature published about jets and scale, as data with their source.

What they mean here, and how runs of one's own are set beside them, is the matter of ``eval.literature.claims``.
"""

from dataclasses import dataclass

VIGL, AMRAM, USLU = "arXiv:2602.15781", "arXiv:2605.28940", "arXiv:2606.19781"
ATLAS = "ATL-SOFT-PUB-2026-002"


@dataclass(frozen=True)
class Constant:
    """A published number.

    Attributes
    ----------
    key : str
        Name in this project's words: "alpha", "L_inf", "lambda", ...
    value : float
    low, high : float or None
        Published interval, where there is one.
    source : str
    setting : str
        Jets, classes and training that it belongs to.
    variant : str
        Which of several in one setting: inputs, or pre-training.
    transfers : bool
        Whether it may be compared across data sets: exponents and ratios of one task may, losses and amplitudes not.
    """

    key: str
    value: float
    low: float | None
    high: float | None
    source: str
    setting: str
    variant: str = ""
    transfers: bool = True

    def __str__(self) -> str:
        ends = "" if self.low is None or self.high is None else f" [{self.low:g}, {self.high:g}]"
        return f"{self.value:g}{ends}"


_SINGLE = "JetClass, 10 classes, 21 features, single epoch"
_REPEATED = "JetClass, 10 classes, repeated data"
_FINE_TUNED = "JetClass, 10 classes, 9 features"
_FLAVOUR = "small-R jets, b/c/light, single epoch"

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

CONSTANTS: tuple[Constant, ...] = (
    Constant("L_inf", 0.32, 0.29, 0.34, VIGL, _SINGLE, transfers=False),
    Constant("A", 11.27, 8.01, 15.14, VIGL, _SINGLE, transfers=False),
    Constant("alpha", 0.44, 0.40, 0.48, VIGL, _SINGLE),
    Constant("B", 7.22, 6.66, 7.89, VIGL, _SINGLE, transfers=False),
    Constant("beta", 0.22, 0.21, 0.23, VIGL, _SINGLE),
    Constant("gamma", 0.15, 0.13, 0.16, VIGL, _SINGLE),
    # Not printed beside the others: beta/(alpha + beta) of the values above.
    Constant("a", 0.33, None, None, VIGL, _SINGLE),
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
)

#: Inputs that stand for a paper's default.
FULL_INPUTS = "21 features, 128 particles"


def published(key: str, source: str = VIGL, variant: str = "") -> Constant:
    """The constant of a source.

    Raises
    ------
    KeyError
        There is none.
    """
    for constant in CONSTANTS:
        if (constant.key, constant.source, constant.variant) == (key, source, variant):
            return constant
    raise KeyError(f"{source} has no {key} {variant}".rstrip())
