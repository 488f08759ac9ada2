"""Laws by name."""

from eval.common.errors import InputError
from eval.scaling.breaks import M4, BrokenPower
from eval.scaling.forms import POWER_NAMES, Additive, Kaplan, Logarithmic, Power, Rejection, check_variable
from eval.scaling.law import Law
from eval.scaling.repetition.effective import EffectiveData


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
    surfaces = {
        "additive": Additive(),
        "additive-tied": Additive(tied=True),
        "kaplan": Kaplan(),
        "effective-data": EffectiveData(),
        "rejection": Rejection(),
    }
    if name in surfaces:
        if variable is not None:
            raise InputError(f"law {name}: takes no variable, found {variable}")
        return surfaces[name]
    curves = ("power", "power-nofloor", "logarithmic", "broken", "m4")
    if name not in curves:
        raise InputError(f"law: {name} is not one of {', '.join((*surfaces, *curves))}")
    if variable is None:
        raise InputError(f"law {name}: needs a variable, one of {', '.join(POWER_NAMES)}")
    check_variable(variable)
    return {
        "power": Power(variable),
        "power-nofloor": Power(variable, floor=False),
        "logarithmic": Logarithmic(variable),
        "broken": BrokenPower(variable),
        "m4": M4(variable),
    }[name]
