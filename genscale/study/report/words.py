"""Words that several sections of a report share."""

from __future__ import annotations

from typing import Final

from eval.common.results import Estimate
from eval.literature.verdicts import Verdict
from genscale.pages import Mark

#: How verdicts are marked, in the order in which they are shown.
MARKS: Final = {
    Verdict.SUPPORTS: Mark.YES,
    Verdict.CONTRADICTS: Mark.NO,
    Verdict.CANNOT_TELL: Mark.OPEN,
    Verdict.NOT_TESTED: Mark.UNTESTED,
    Verdict.NOT_APPLICABLE: Mark.OUTSIDE,
}


def sentence(text: object) -> str:
    """Reason or verdict as a whole sentence."""
    words = str(text)
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def verdict(e: Estimate) -> str:
    """Whether a constant may be quoted."""
    return "yes" if e.identified else "no: " + e.reason if e.identified is False else ""
