"""Laws by name: each module of laws names its own."""

from collections.abc import Callable, Mapping

from eval.common.errors import InputError
from eval.scaling.laws import breaks, effective, forms
from eval.scaling.laws.law import Law

#: Laws of given variables.
FIXED: Mapping[str, Callable[[], Law]] = {**forms.FIXED, **effective.FIXED}

#: Laws of one variable, which the caller chooses.
CURVES: Mapping[str, Callable[[str], Law]] = {**forms.CURVES, **breaks.CURVES}


def get_law(name: str, variable: str | None = None) -> Law:
    """Return a law by its name on the command line and in ``fit.json``.

    Parameters
    ----------
    name : str
        Name of the law.
    variable : str, optional
        N, D, C or U, for the laws of one variable: power, power-nofloor, logarithmic, broken, m4.

    Returns
    -------
    Law

    Raises
    ------
    InputError
        The name is unknown, or the variable is missing or superfluous.
    """
    if name in FIXED:
        if variable is not None:
            raise InputError(f"law {name}: takes no variable, found {variable}")
        return FIXED[name]()
    if name not in CURVES:
        raise InputError(f"law: {name} is not one of {', '.join((*FIXED, *CURVES))}")
    if variable is None:
        raise InputError(f"law {name}: needs a variable, one of {', '.join(forms.POWER_NAMES)}")
    return CURVES[name](variable)
