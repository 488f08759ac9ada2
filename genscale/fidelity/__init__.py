"""Scoring one sample of jets against another: the whole of `eval` on two files, and a page that tells what it found."""

from __future__ import annotations

from genscale.fidelity.evaluation import evaluate, evaluate_stores

__all__ = ["evaluate", "evaluate_stores"]
