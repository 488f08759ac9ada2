"""Jets to discrete tokens and back.

Examples
--------
>>> tokenizer = Tokenizer.load(folder)  # doctest: +SKIP
>>> tokens = tokenizer.encode(jets)  # doctest: +SKIP
>>> jets = tokenizer.decode(tokens)  # doctest: +SKIP

Tokens are ragged integers: a start token, one code per particle, a stop token. Importing the package is cheap: the
classes, which need torch, are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokenizer.errors import InputError

if TYPE_CHECKING:
    from tokenizer.codec import Tokenizer
    from tokenizer.config import PRESETS, BinningConfig, VQVAEConfig
    from tokenizer.preprocessing import Preprocessing

__all__ = ["PRESETS", "BinningConfig", "InputError", "Preprocessing", "Tokenizer", "VQVAEConfig"]

_HOME = {
    "BinningConfig": "config",
    "PRESETS": "config",
    "Preprocessing": "preprocessing",
    "Tokenizer": "codec",
    "VQVAEConfig": "config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
