"""Scaling laws: forms, fits, intervals. numpy and scipy only."""
