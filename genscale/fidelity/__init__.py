"""Scoring one sample of jets against another: the whole of `eval` on two files, and a page that tells what it found."""

from __future__ import annotations

from genscale.fidelity.comparison import compare
from genscale.fidelity.evaluation import evaluate, evaluate_stores
from genscale.fidelity.samples import Selection

__all__ = ["Selection", "compare", "evaluate", "evaluate_stores"]
