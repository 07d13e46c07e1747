"""Which version this is."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

_MANIFEST = Path(__file__).parents[1] / 'package.xml'


def version() -> str:
    """Such as '0.1.0', as pip knows it, or as package.xml beside the sources says; 'unknown' where
    colcon has installed the modules alone."""
    try:
        return metadata.version('cliptrase_ros')
    except metadata.PackageNotFoundError:
        pass
    if not _MANIFEST.is_file():
        return 'unknown'
    return re.search('<version>(.+)</version>', _MANIFEST.read_text())[1]
