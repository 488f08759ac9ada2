"""One distance with its error and its floor, and what can be concluded from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.fidelity.distances import Distance
from eval.fidelity.floors import RESOLVED_AT, Floor

#: Key of the sliced distance over all observables at once.
JOINT = "joint"

#: A resolved distance exceeds its floor by more than this many of its own errors.
ERRORS_LEFT = 2.0


@dataclass(frozen=True)
class PublishedDistance:
    """A distance in the convention of its paper.

    Attributes
    ----------
    value : float
    error : float
    settings : dict
        What would change the value.
    """

    value: float
    error: float
    settings: dict[str, float | bool]


@dataclass(frozen=True)
class Row:
    """One line of the table of an evaluation; the fields are the columns of fidelity.csv.

    Attributes
    ----------
    group : "joint", "observable", "particle", "published" or "classifier"
    name : str
        Name of the quantity.
    unit : str
    value : float
    error : float
        Statistical error of the value.
    floor : float
        Mean distance between reference jets at the same sample sizes.
    floor_spread : float
        Its standard deviation.
    significance : float
        Spreads between value and floor, positive where the samples differ.
    p_value : float
        Probability of such a value if both samples came from one distribution.
    corrected : float
        Value after subtraction of the floor.
    jets_to_resolve : int or None
        Jets of each kind that would resolve the corrected value; None if that is zero.
    resolved : bool
        Whether the difference is seen at this number of jets.
    tokenizer : float or None
        The corrected value of tokenizer-only jets, where those were given.
    published : float or None
        The value in the convention of its paper, where that differs.
    published_error : float or None
    verdict : str
        One sentence.
    """

    group: str
    name: str
    unit: str
    value: float
    error: float
    floor: float
    floor_spread: float
    significance: float
    p_value: float
    corrected: float
    jets_to_resolve: int | None
    resolved: bool
    tokenizer: float | None
    published: float | None
    published_error: float | None
    verdict: str


@dataclass(frozen=True)
class TokenizerFloor:
    """The distance of a sample from the reference that encoding and decoding alone causes.

    Attributes
    ----------
    value : float
    standard_error : float
    corrected : float
        Value after subtraction of the finite-sample floor at the tokenizer's own sample size, so that it can be
        compared with a generated sample of another size.
    significance : float
        Spreads of that floor between it and the value.
    """

    value: float
    standard_error: float
    corrected: float
    significance: float

    @classmethod
    def of(cls, distance: Distance, floor: Floor) -> TokenizerFloor:
        """Judge the tokenizer's distance by the floor at the size of the tokenizer-only sample."""
        value = distance.value
        return cls(value, distance.standard_error, floor.corrected(value), floor.significance(value))


@dataclass(frozen=True)
class Score:
    """One distance between generated and reference jets, with what is needed to judge it.

    Attributes
    ----------
    name : str
        Observable, or "joint".
    unit : str
        Of value and floors: the observable's own, or "reference standard deviations" for the joint one.
    distance : Distance
    floor : Floor
    tokenizer : TokenizerFloor or None
        Floor of the tokenizer, where a tokenizer-only sample was given.
    published : PublishedDistance or None
        The same distance in the convention of its paper, where that is another number.
    """

    name: str
    unit: str
    distance: Distance
    floor: Floor
    tokenizer: TokenizerFloor | None = None
    published: PublishedDistance | None = None

    @property
    def value(self) -> float:
        """The distance itself."""
        return self.distance.value

    @property
    def significance(self) -> float:
        """Spreads of the floor between the value and the mean of the floor."""
        return self.floor.significance(self.value)

    @property
    def corrected(self) -> float:
        """Value after subtraction of the floor."""
        return self.floor.corrected(self.value)

    @property
    def resolved(self) -> bool:
        """Whether the value lies three spreads above the floor, and what is left exceeds twice its error.

        The second condition matters for heavy tails, where one jet that the reference does not have can move
        the value by many spreads of the floor.
        """
        return (
            self.significance >= RESOLVED_AT and self.corrected > ERRORS_LEFT * self.distance.standard_error
        )

    @property
    def jets_to_resolve(self) -> int | None:
        """Jets of each kind that would resolve the corrected distance; None if that is zero."""
        if not self.corrected > 0:
            return None
        over_its_error = (ERRORS_LEFT * self.distance.standard_error / self.corrected) ** 2
        return math.ceil(max(self.floor.jets_needed(self.corrected), self.floor.even_size * over_its_error))

    @property
    def verdict(self) -> str:
        """One sentence; a value at the floor is "not resolved at n = ...", never "perfect"."""
        side, size = "above" if self.significance >= 0 else "below", abs(self.significance)
        text = (
            f"{'resolved' if self.resolved else 'not resolved'} at n = {self.distance.n_generated}: "
            f"{f'{size:.1f}' if size < 10 else f'{size:,.0f}'} spreads {side} the floor {self.floor.mean:.3g}"
        )
        if self.tokenizer is None:
            return text
        own = self.tokenizer.corrected
        excess = self.corrected - own
        error = math.hypot(self.distance.standard_error, self.tokenizer.standard_error)
        if excess <= 2 * error:
            return f"{text}; no larger than the tokenizer's own {own:.3g} within two errors"
        if own <= 0:
            return f"{text}; the tokenizer alone is not resolved"
        return f"{text}; {self.corrected / own:.3g} times the tokenizer's own {own:.3g}, floors taken off"

    @property
    def p_value(self) -> float:
        """Fraction of the floor's splits that are at least as far apart."""
        return self.floor.p_value(self.value)

    def row(self, group: str) -> Row:
        """The line of this score in a table."""
        return Row(
            group, self.name, self.unit, self.value, self.distance.standard_error, self.floor.mean,
            self.floor.spread, self.significance, self.p_value, self.corrected, self.jets_to_resolve,
            self.resolved, self.tokenizer.corrected if self.tokenizer else None,
            self.published.value if self.published else None,
            self.published.error if self.published else None, self.verdict,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "unit": self.unit,
            **asdict(self.distance),
            "floor": {
                "mean": self.floor.mean,
                "spread": self.floor.spread,
                "n_repeats": self.floor.values.size,
                "scale": self.floor.scale,
                "squared": self.floor.squared,
                "values": self.floor.values.tolist(),
            },
            "significance": self.significance,
            "p_value": self.p_value,
            "corrected": self.corrected,
            "resolved": self.resolved,
            "jets_to_resolve": self.jets_to_resolve,
            "tokenizer_floor": asdict(self.tokenizer) if self.tokenizer else None,
            "published": asdict(self.published) if self.published else None,
            "verdict": self.verdict,
        }

    @classmethod
    def from_dict(cls, name: str, entry: dict[str, Any]) -> Score:
        """Read what `to_dict` wrote."""
        # Files of before version 3 do not say which part of the error the generated sample makes: all of it, then.
        known = {"error_generated": entry["error_jets"], **entry}
        distance = Distance(**{key: known[key] for key in Distance.__dataclass_fields__})
        floor = Floor(
            np.asarray(entry["floor"]["values"]),
            distance.n_generated,
            distance.n_reference,
            entry["floor"]["scale"],
            entry["floor"].get("squared", False),
        )
        tokenizer = TokenizerFloor(**entry["tokenizer_floor"]) if entry["tokenizer_floor"] else None
        published = PublishedDistance(**entry["published"]) if entry.get("published") else None
        return cls(name, entry["unit"], distance, floor, tokenizer, published)
