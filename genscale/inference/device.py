"""Where models run that are not trained: encoding, sampling, scoring."""

from __future__ import annotations

from genscale.errors import InputError


def resolve_device(name: str) -> str:
    """Return the device of this name; ``auto`` is cuda where there is one.

    Raises
    ------
    InputError
        If there is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: not usable here ({str(error).splitlines()[0][:60]})") from error
    return name
