"""What the host may know of numbers on a device, and how they come to it.

To read a number of a GPU, the host waits until all work before it is done, and a CUDA graph cannot
hold that. So nothing between an image and its labels depends on such a number, but where it is
free.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def may_look(x: Tensor) -> bool:
    """Whether reading a number of `x` costs nothing: it lies in the host's own memory."""
    return x.device.type == 'cpu'


def fetch(*tensors: Tensor) -> list[np.ndarray]:
    """Tensors of one device as arrays, after one wait for all of them; on the CPU no copies."""
    # Without blocking, torch copies from CUDA into pinned memory.
    copies = [x.to('cpu', non_blocking=True) for x in tensors]
    if tensors[0].is_cuda:
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return [copy.numpy() for copy in copies]
