"""The one exception that means: the input is wrong, here is what would be right."""


class InputError(ValueError):
    """Bad input from outside; the message names the file, key or value and what would be right."""
