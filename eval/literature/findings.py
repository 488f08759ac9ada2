"""What one study measured about the claims of the literature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eval.common.results import Estimate
from eval.fidelity.loss import LossFidelity
from eval.scaling.repetition.fit import RepeatedData
from eval.scaling.repetition.inputs import InputComparison
from eval.scaling.repetition.threshold import Threshold
from eval.scaling.steps import PairedSteps
from eval.tagging.law import RejectionLaw


@dataclass(frozen=True)
class Findings:
    """What one study measured; None, or empty, where it did not.

    Two laws of data are kept apart. In a *single pass* every jet is seen once: the law L(N, D) of compute-optimal
    training. With *repeated data* U unique jets are seen until the held-out loss no longer falls: the law L(U) of
    loss-optimal training.

    Attributes
    ----------
    tagging : mapping of str to Estimate
        Constants of the single-pass law L(N, D) of taggers and its derived exponents, by name. Their intervals include
        the dependence on the window of the fit, the objective and the definition of N, and the misfit of the law. What
        must not be judged by has no 95 % interval.
    tagging_steps : PairedSteps or None
        Differences between neighbouring single-pass runs of taggers.
    generation_steps : PairedSteps or None
        The same of generators.
    isoflop_a : Estimate or None
        Exponent of N* ~ C^a by approach 2, for taggers from scratch.
    repetition : RepeatedData or None
        Law of repeated data of taggers.
    generation_repetition : RepeatedData or None
        Law of repeated data of generators.
    threshold : Threshold or None
        Overfitting threshold of taggers.
    generation_threshold : Threshold or None
        Overfitting threshold of generators.
    inputs : InputComparison or None
        Comparison of the inputs of taggers.
    rejection : mapping of str to RejectionLaw
        R(L) of each signal class.
    loss_fidelity : LossFidelity or None
        Relation of loss and distance of generators.
    window : Estimate or None
        Learnable window of generation, in nats per jet below a table of bigrams.
    limited_by_training : frozenset of str
        Tasks whose repetition control found that repeated jets do as well as fresh ones: their single-pass law is
        not a law of data.
    same_jets : bool
        Whether jets, classes and inputs are those of the papers (JetClass): only then are losses compared.
    """

    tagging: Mapping[str, Estimate] = field(default_factory=dict)
    tagging_steps: PairedSteps | None = None
    generation_steps: PairedSteps | None = None
    isoflop_a: Estimate | None = None
    repetition: RepeatedData | None = None
    generation_repetition: RepeatedData | None = None
    threshold: Threshold | None = None
    generation_threshold: Threshold | None = None
    inputs: InputComparison | None = None
    rejection: Mapping[str, RejectionLaw] = field(default_factory=dict)
    loss_fidelity: LossFidelity | None = None
    window: Estimate | None = None
    limited_by_training: frozenset[str] = frozenset()
    same_jets: bool = False
