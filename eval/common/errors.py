"""The exceptions that mean: the input is wrong, here is what would be right."""


class InputError(ValueError):
    """Bad input from outside; the message names the file, key or value and what would be right."""


class TooFewJets(InputError):
    """A sample is sound but too small for one measure; the message says how many jets that needs."""
