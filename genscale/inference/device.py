"""The device on which models run outside training: encoding, sampling, scoring."""

from __future__ import annotations

from genscale.errors import InputError


def resolve_device(name: str) -> str:
    """Return the device of this name.

    Parameters
    ----------
    name : str
        ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` is cuda if it is available.

    Returns
    -------
    str

    Raises
    ------
    InputError
        There is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: not usable here ({str(error).splitlines()[0][:60]})") from error
    return name
