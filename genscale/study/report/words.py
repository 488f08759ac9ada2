"""Words that several sections of a report share."""

from __future__ import annotations

from eval.common.results import Estimate


def sentence(text: object) -> str:
    """Reason or verdict as a whole sentence."""
    words = str(text)
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def verdict(e: Estimate) -> str:
    """Whether a constant may be quoted."""
    return "yes" if e.identified else "no: " + e.reason if e.identified is False else ""
