"""Measurement of time, memory and machine, for `cliptrase bench` and the scripts in bench/.

The entries of a table are measured in turn within one process, after a warm-up. So changes in the
speed of the machine affect all entries alike. A ratio is the median of the ratios of all turns.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

WARM_UP = 2
# Writing 5 here resets the peak memory of this process to its current memory.
CLEAR_REFS = Path('/proc/self/clear_refs')

Key = TypeVar('Key', bound=Hashable)


@torch.no_grad()
def timed(
    work: dict[Key, Callable[[], Any]], repeats: int, device: torch.device
) -> dict[Key, list[float]]:
    """Return the milliseconds of each call, `repeats` times, all calls in turn."""
    times: dict[Key, list[float]] = {name: [] for name in work}
    for turn in range(WARM_UP + repeats):
        for name, function in work.items():
            _finish(device)
            start = time.perf_counter()
            function()
            _finish(device)
            if turn >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def peak_mb(function: Callable[[], Any], device: torch.device) -> float:
    """Return the peak memory of a call beyond the memory in use before it, in MB (10^6 bytes).

    On CUDA this is the memory of tensors. On the CPU it is the memory of the process; NaN if the
    system does not report it.
    """
    _finish(device)
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        function()
        return (torch.cuda.max_memory_allocated(device) - held) / 1e6
    give_back_memory()
    try:
        CLEAR_REFS.write_text('5')
        before = status_mb('VmRSS')
    except OSError:
        return math.nan
    function()
    return max(0.0, status_mb('VmHWM') - before)


def give_back_memory() -> None:
    """Give freed memory back to the system.

    Otherwise the next call reuses it, and its memory is not counted in full.
    """
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim:  # only glibc has it
        trim(0)


def status_mb(name: str, process: int | str = 'self') -> float:
    """Return a value of /proc/PROCESS/status, such as 'VmRSS', in MB (10^6 bytes)."""
    lines = Path(f'/proc/{process}/status').read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(name + ':')) * 1.024e-3


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Return the median over all turns of `times` / `base`."""
    return float(np.median(np.divide(times, base)))


def print_header(*columns: str) -> None:
    """Print an empty line and the head of a Markdown table."""
    print(f'\n| {" | ".join(columns)} |\n|{"---|" * len(columns)}')


def print_rows(
    lead: str,
    times: dict[str, list[float]],
    base: list[float],
    more: Sequence[str] = (),
    digits: int = 2,
) -> None:
    """Print a line for each of {name: ms of each turn}: p50, p95, ratio to `base`, more cells."""
    for name, values in times.items():
        p50, p95 = np.percentile(values, (50, 95))
        cells = lead, name, f'{p50:.1f}', f'{p95:.1f}', f'{ratio(values, base):.{digits}f}', *more
        print(f'| {" | ".join(cells)} |', flush=True)


def hardware(device: torch.device) -> str:
    """Return the processor, its load before the measurement, and the versions of the software."""
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        names = (x.split(':')[1].strip() for x in lines if x.startswith('model name'))
        name = f'{next(names, platform.machine())}, {torch.get_num_threads()} threads'
    load = f'load {os.getloadavg()[0]:.1f} before'
    return f'{name}, {load}; torch {torch.__version__}; Python {platform.python_version()}'


def _finish(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
