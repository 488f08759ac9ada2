"""Exceptions for wrong input; their messages say what would be right."""


class InputError(ValueError):
    """Wrong input; the message names the file, key or value and what would be right."""


class TooFewJets(InputError):
    """A sample is valid but too small for one measure; the message says how many jets are needed."""
