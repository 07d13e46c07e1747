"""The hub that serves open_clip's weights: its local cache, and machines that cannot reach it."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub


def cached_file(address: str) -> Path | None:
    """Return the weights of 'OWNER/NAME/FILE' from the hub's local cache, or None if absent."""
    repository, _, named = address.rpartition('/')
    named = named or 'open_clip_pytorch_model.bin'
    # The search order of open_clip: safetensors first.
    alternatives = [f'{Path(named).stem}.safetensors', named]
    if named == 'open_clip_pytorch_model.bin':
        alternatives[0] = 'open_clip_model.safetensors'
    for name in alternatives if repository else ():
        found = huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def hub_reachable(timeout_s: float = 3.0) -> bool:
    """Return True if the hub that serves open_clip's weights answers within the time."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(huggingface_hub.constants.ENDPOINT, method='HEAD')
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            return True
    except (OSError, ValueError):  # an error status, such as 403 from a proxy, is an OSError too
        return False


@contextlib.contextmanager
def no_retries_offline(needed: bool) -> Iterator[None]:
    """Let the hub's client use only its cache in the block, if the hub cannot be reached.

    Otherwise it retries for 23 seconds for each file, even if the file is in the cache. The hub is
    not asked if it is not needed.
    """
    constants = huggingface_hub.constants
    if not needed or constants.HF_HUB_OFFLINE or hub_reachable():
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False
