"""The scaling laws: what a law is, the laws themselves, and how to find one by its name."""
