"""What a measurement returns: a number with its interval, or the reason why there is none; and their JSON form."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.errors import InputError

FloatArray = NDArray[np.float64]

SCHEMA_VERSION = 1
LEVELS = {"ci68": 0.6827, "ci95": 0.95}


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
    ci68, ci95 : tuple of float or None
        Central intervals; None where none was computed.
    identified : bool or None
        False when the 95 % interval runs into a bound or over decades; None when that was not computed.
    reason : str
        Why it is not identified, in words.
    """

    value: float
    ci68: tuple[float, float] | None = None
    ci95: tuple[float, float] | None = None
    identified: bool | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        plain: dict[str, Any] = {
            "value": _finite(self.value),
            "ci68": None if self.ci68 is None else [_finite(x) for x in self.ci68],
            "ci95": None if self.ci95 is None else [_finite(x) for x in self.ci95],
            "identified": self.identified,
        }
        return plain | ({"reason": self.reason} if self.reason else {})

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Estimate:
        """Inverse of ``to_dict``; a null stands for a number that is not finite."""

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
        """Percentile intervals of ``samples`` about ``value``; a ``reason`` marks it as not identified."""
        if samples is None or not len(samples):
            return cls(float(value), identified=False if reason else None, reason=reason)
        intervals = {name: interval(samples, level) for name, level in LEVELS.items()}
        return cls(float(value), **intervals, identified=not reason, reason=reason)

    def __str__(self) -> str:
        text = f"{self.value:.4g}"
        if self.ci68 is not None:
            text += f" [{self.ci68[0]:.4g}, {self.ci68[1]:.4g}]"
        return text + (f" (not identified: {self.reason})" if self.identified is False else "")


def interval(samples: FloatArray, level: float) -> tuple[float, float]:
    """Central percentile interval; infinite samples keep their place in the order."""
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    position = np.array([0.5 - level / 2, 0.5 + level / 2]) * (len(ordered) - 1)
    below, above = np.floor(position).astype(int), np.ceil(position).astype(int)
    with np.errstate(invalid="ignore"):
        mixed = ordered[below] + (position - below) * (ordered[above] - ordered[below])
    low, high = np.where(np.isfinite(mixed), mixed, ordered[above])
    return float(low), float(high)


def plain(value: Any) -> Any:
    """Turn a result into what JSON can hold.

    Dataclasses become mappings of their fields, arrays lists, enumerations their values, an :class:`Unavailable`
    its reason. Numbers that are not finite become null, because JSON has none. A class that is written in a form of
    its own has a method ``to_dict``.

    Parameters
    ----------
    value : object
        Dataclass, mapping, sequence, array, or plain value.

    Raises
    ------
    TypeError
        If a value has no such form.
    """
    if isinstance(value, Unavailable):
        return value.reason
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return _finite(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{type(value).__name__}: has no plain form")


def _finite(x: float) -> float | None:
    # JSON has no infinity; null says "no finite number" in every reader.
    return float(x) if np.isfinite(x) else None


def _number(x: float | None) -> float:
    return float("nan") if x is None else float(x)


def write_json(plain: Mapping[str, Any], path: str | os.PathLike[str] | None) -> str:
    """JSON text of ``plain``, also written to ``path`` through a temporary neighbour."""
    text = json.dumps(plain, indent=1, allow_nan=False) + "\n"
    if path is not None:
        target = Path(path)
        aside = target.with_name(f".{target.name}.partial")
        aside.write_text(text, encoding="utf-8")
        aside.replace(target)
    return text


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """JSON object of this schema version, or InputError with the reason."""
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
