"""Results of measurements: a number with its intervals, or the reason why there is none; and their form in JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError

FloatArray = NDArray[np.float64]

SCHEMA_VERSION = 1
LEVELS = {"ci68": 0.6827, "ci95": 0.95}

Kind = Literal["scale", "exponent"]
"""What kind of number an estimate is: how wide its interval may be depends on it (see `Estimate.judged`)."""

MOST_DECADES = 1.0
"""A scale is identified when its 95 % interval is narrower than this many decades."""

WIDEST_EXPONENT = 0.3
"""An exponent is identified when its 95 % interval is narrower than this: published exponents of the loss lie between
0.05 and 0.37 for language (arXiv:2001.08361, 2203.15556, 2404.10102) and up to 0.5 for jets (arXiv:2602.15781)."""

LARGEST_RELATIVE_ERROR = 0.5
"""An exponent is also identified when half of its 95 % interval is less than this share of its value."""


@dataclass(frozen=True)
class Unavailable:
    """A result that does not exist, and why.

    Attributes
    ----------
    reason : str
        One sentence for the report, without a full stop.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Estimate:
    """A fitted or derived number.

    Attributes
    ----------
    value : float
        The number.
    ci68 : tuple of float or None
        Central 68 % interval; None if none was computed.
    ci95 : tuple of float or None
        Central 95 % interval; None if none was computed.
    identified : bool or None
        Whether the number may be quoted, by the rule of `judged`; None if this was not judged.
    reason : str
        Why the number is not identified; empty otherwise.
    """

    value: float
    ci68: tuple[float, float] | None = None
    ci95: tuple[float, float] | None = None
    identified: bool | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with a reason only if there is one."""
        return plain_fields(self, without=() if self.reason else ("reason",))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Estimate:
        """Build an estimate from the values of ``to_dict``; null stands for a number that is not finite."""

        def pair(values: Any) -> tuple[float, float] | None:
            return None if values is None else (_number(values[0]), _number(values[1]))

        return cls(
            _number(plain["value"]),
            pair(plain.get("ci68")),
            pair(plain.get("ci95")),
            plain.get("identified"),
            plain.get("reason", ""),
        )

    @classmethod
    def from_samples(cls, value: float, samples: FloatArray | None, reason: str = "") -> Estimate:
        """Build an estimate with percentile intervals of ``samples``; a ``reason`` marks it as not identified.

        The width of the intervals is not judged here, but by `judged`.
        """
        if samples is None or not len(samples):
            return cls(float(value), identified=False if reason else None, reason=reason)
        intervals = {name: interval(samples, level) for name, level in LEVELS.items()}
        return cls(float(value), **intervals, identified=not reason, reason=reason)

    def judged(self, kind: Kind = "scale", reason: str = "") -> Estimate:
        """Decide whether the points identify the number, by one rule for all fitted and derived quantities.

        The rule asks whether the 95 % interval is informative, not whether it is small:

        - a *scale* (amplitude, floor, model size, compute, ratio) is identified when its interval is narrower than one
          decade, does not reach zero and has an upper end: beyond that even its order of magnitude is unknown;
        - an *exponent* is identified when its interval is narrower than 0.3, which is the range of published values,
          so that it tells one published law from another; or when half the interval is less than 50 % of the value,
          so that a steep law need not be known better than that;
        - neither is identified when there is a ``reason`` against it that its width does not show, above all when the
          constant, or one that it rests on, runs into a bound.

        Parameters
        ----------
        kind : {"scale", "exponent"}
            Which of the rules applies.
        reason : str
            Why the number is not identified, whatever the width of its interval; empty if there is no such reason.

        Returns
        -------
        Estimate
            With ``identified`` and ``reason`` set. Without a 95 % interval and without a reason nothing is judged.
        """
        if not reason and self.ci95 is None:
            return replace(self, identified=None, reason="")
        if not reason and self.ci95 is not None:
            reason = _too_wide(self.value, *self.ci95, kind)
        return replace(self, identified=not reason, reason=reason)

    def text(self, level: Literal["ci68", "ci95"] = "ci68") -> str:
        """Return the value with one of its intervals in four significant digits: ``0.227 [0.158, 0.899]``."""
        ends = self.ci68 if level == "ci68" else self.ci95
        return f"{self.value:.4g}" + ("" if ends is None else f" [{ends[0]:.4g}, {ends[1]:.4g}]")

    def __str__(self) -> str:
        return self.text() + (f" (not identified: {self.reason})" if self.identified is False else "")


def _too_wide(value: float, low: float, high: float, kind: Kind) -> str:
    """Return why the 95 % interval of a number is too wide, or an empty string."""
    if not (np.isfinite(value) and np.isfinite(low) and np.isfinite(high)):
        return "the 95% interval has no end"
    if kind == "exponent":
        width = high - low
        narrow = width <= WIDEST_EXPONENT or 0.5 * width <= LARGEST_RELATIVE_ERROR * abs(value)
        return "" if narrow else f"the 95% interval is {width:.2g} wide"
    if low <= 0 <= high:
        return "the 95% interval reaches zero"
    decades = abs(np.log10(high / low))
    return "" if decades <= MOST_DECADES else f"the 95% interval spans {decades:.1f} decades"


def interval(samples: FloatArray, level: float) -> tuple[float, float]:
    """Return the central percentile interval; infinite samples keep their place in the order."""
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    position = np.array([0.5 - level / 2, 0.5 + level / 2]) * (len(ordered) - 1)
    below, above = np.floor(position).astype(int), np.ceil(position).astype(int)
    with np.errstate(invalid="ignore"):
        mixed = ordered[below] + (position - below) * (ordered[above] - ordered[below])
    low, high = np.where(np.isfinite(mixed), mixed, ordered[above])
    return float(low), float(high)


def plain(value: Any) -> Any:
    """Turn a result into plain values that JSON can represent.

    Dataclasses become mappings of their fields, arrays become lists, enumerations their values, and an `Unavailable`
    its reason. Numbers that are not finite become null, because JSON has no numbers for them. Classes with a method
    ``to_dict`` are written in the form that it returns.

    Parameters
    ----------
    value : object
        Dataclass, mapping, sequence, array, or plain value.

    Returns
    -------
    object
        None, bool, int, float, str, and lists and dictionaries of these.

    Raises
    ------
    TypeError
        A value has no such form.
    """
    if isinstance(value, Unavailable):
        return value.reason
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return plain_fields(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{type(value).__name__}: has no plain form")


def plain_fields(value: Any, without: Container[str] = ()) -> dict[str, Any]:
    """Return the fields of a dataclass in plain form, for a ``to_dict`` that adds to them or leaves some out."""
    return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.name not in without}


def _number(x: float | None) -> float:
    return float("nan") if x is None else float(x)


def write_json(plain: Mapping[str, Any], path: str | os.PathLike[str] | None) -> str:
    """Return the JSON text of ``plain``, and write it to ``path`` through a temporary file in its folder, if given."""
    text = json.dumps(plain, indent=1, allow_nan=False) + "\n"
    if path is not None:
        target = Path(path)
        aside = target.with_name(f".{target.name}.partial")
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(target)) from error  # a full disk has no file name
        finally:
            aside.unlink(missing_ok=True)
    return text


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object of this schema version; raises InputError with the reason if there is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; write one with `genscale fit POINTS.csv --out {path.name}`")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error.msg} at line {error.lineno})") from None
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version must be {SCHEMA_VERSION}, found {version!r}")
    return plain
