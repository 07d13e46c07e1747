"""Reading numbers of a device on the host.

To read a number of a GPU, the host must wait until all earlier work is done, and a CUDA graph
cannot contain this wait. So no step between an image and its labels reads a number on the host,
except if this costs nothing (see `may_look`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def may_look(x: Tensor) -> bool:
    """Return True if reading a number of `x` costs nothing, because it is in the host's memory."""
    return x.device.type == 'cpu'


def fetch(*tensors: Tensor) -> list[np.ndarray]:
    """Return tensors of one device as arrays, after one wait for all. On the CPU, do not copy."""
    # With non_blocking, torch copies from CUDA into pinned memory.
    copies = [x.to('cpu', non_blocking=True) for x in tensors]
    if tensors[0].is_cuda:
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return [copy.numpy() for copy in copies]
