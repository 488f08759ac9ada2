"""The exception for bad input."""


class InputError(ValueError):
    """Bad input from outside; the message names the file, the key or the value, and says what would be right."""
