"""The compute-optimal line without a law: approaches 1 and 2 of Hoffmann et al., arXiv:2203.15556."""
