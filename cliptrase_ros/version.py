"""The version of this package."""

from __future__ import annotations

import os
import re
from importlib import metadata
from pathlib import Path

_BESIDE = Path(__file__).parents[1] / 'package.xml'


def version() -> str:
    """Return the version, such as '0.1.0'.

    It comes from pip, or from package.xml next to the sources or where ROS installs it. It is
    'unknown' if there is neither.
    """
    try:
        return metadata.version('cliptrase_ros')
    except metadata.PackageNotFoundError:
        pass
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    shared = (Path(p, 'share', 'cliptrase_ros', 'package.xml') for p in prefixes if p)
    for manifest in (_BESIDE, *shared):
        if manifest.is_file():
            found = re.search('<version>(.+)</version>', manifest.read_text(encoding='utf-8'))
            return found[1] if found else 'unknown'
    return 'unknown'
