"""Readers of foreign formats, one file each; `READERS` is the table that conversion looks in."""

from __future__ import annotations

from genscale.data.readers.base import Reader, Source
from genscale.data.readers.jetclass import JetClassReader

__all__ = ["READERS", "Reader", "Source"]

READERS: dict[str, Reader] = {reader.name: reader for reader in (JetClassReader(),)}
