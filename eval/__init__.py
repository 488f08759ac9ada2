"""Scores of generated jets and of taggers, and scaling laws, from plain arrays; independent of runs and studies."""
