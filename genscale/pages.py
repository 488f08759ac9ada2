"""HTML pages that are whole by themselves: a template, its values, and pictures inside."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from genscale.files import write_atomic
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


def picture(image: Figure | Path, out: Path) -> str:
    """Write a figure, or a PNG that is there, beside a page and return the link that holds it."""
    data = image.read_bytes() if isinstance(image, Path) else png(image, dpi=120)
    write_atomic(out, data)
    return data_url(data)


def data_url(image: bytes) -> str:
    """Return a PNG as a link that holds it."""
    return "data:image/png;base64," + base64.b64encode(image).decode()
