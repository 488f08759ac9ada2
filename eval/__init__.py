"""Scores of samples and laws of scaling; takes plain arrays, knows nothing of runs or studies."""
