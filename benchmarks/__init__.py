"""Benchmarks, one file per subject: ``scripts/bench SUBJECT``. Figures are ratios from one run, with their spread."""
