"""HTML pages that are whole by themselves: a template, its values, and pictures inside."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import jinja2

from genscale.records import git_commit, package_versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(template: str, **values: Any) -> str:
    """Fill in a template of ``genscale/templates``; versions and commit are added."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genscale"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(
        versions=package_versions(), commit=git_commit(), **values
    )


def png(figure: Figure, dpi: int = 100) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def data_url(image: bytes) -> str:
    """Return a PNG as a link that holds it."""
    return "data:image/png;base64," + base64.b64encode(image).decode()
