"""genscale: neural scaling laws for jets, generation and tagging side by side."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("genscale")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
