"""Fits of a law to points: objective, search for its minimum, intervals, and the error of the law itself."""
