"""Results that the data of a study do not allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from eval.common.errors import InputError
from eval.common.results import Unavailable

T = TypeVar("T")


def attempt(what: str, measure: Callable[[], T]) -> T | Unavailable:
    """Return a result, or why the data of the study do not allow it; ``what`` opens that sentence."""
    try:
        return measure()
    except InputError as error:
        return Unavailable(f"{what}: {error}")


def available(result: T | Unavailable | None) -> T | None:
    """Return the result if there is one."""
    return None if isinstance(result, Unavailable) else result
