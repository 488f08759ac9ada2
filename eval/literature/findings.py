"""What one study measured of what the literature speaks about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eval.fidelity.loss import LossFidelity
from eval.results import Estimate
from eval.scaling.repetition.fit import RepeatedData
from eval.scaling.repetition.inputs import InputComparison
from eval.scaling.repetition.threshold import Threshold
from eval.scaling.steps import PairedSteps
from eval.tagging.law import RejectionLaw


@dataclass(frozen=True)
class SampledModel:
    """A generator, its held-out loss and the distance of its jets from the reference.

    Attributes
    ----------
    name : str
        Size (and jets seen, where several stages of one run were sampled).
    loss, distance : float
        Means over seeds.
    error : float
        Standard error of ``distance``, training included.
    """

    name: str
    loss: float
    distance: float
    error: float


@dataclass(frozen=True)
class Findings:
    """What one study measured; None, or empty, where it did not.

    Two laws of data are kept apart. In a *single pass* every jet is seen once: the law L(N, D) of compute-optimal
    training. With *repeated data* U unique jets are seen until the held-out loss no longer falls: the law L(U) of
    loss-optimal training.

    Attributes
    ----------
    tagging, generation : mapping of str to Estimate
        Constants of the single-pass L(N, D) and its derived exponents, by name. The interval of each holds its
        dependence on the window of the fit, the objective and the definition of N, and the misfit of the law.
    tagging_steps, generation_steps : PairedSteps or None
        Differences between neighbouring single-pass runs.
    isoflop_a : Estimate or None
        Exponent of N* ~ C^a by approach 2, taggers from scratch.
    repetition, generation_repetition : RepeatedData or None
        Law of repeated data of taggers and of generators.
    threshold, generation_threshold : Threshold or None
        Where repeated data overfit.
    inputs : InputComparison or None
    rejection : mapping of str to RejectionLaw
        One for each signal class.
    loss_fidelity : LossFidelity or None
    samples : sequence of SampledModel
        What ``loss_fidelity`` was computed from.
    window : Estimate or None
        Learnable window of generation in nats per jet below a reference that does not depend on the tokenizer.
    same_jets : bool
        Whether jets, classes and inputs are those of the papers (JetClass): only then are losses compared.
    """

    tagging: Mapping[str, Estimate] = field(default_factory=dict)
    generation: Mapping[str, Estimate] = field(default_factory=dict)
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
    samples: Sequence[SampledModel] = ()
    window: Estimate | None = None
    same_jets: bool = False
