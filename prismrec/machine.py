"""The machine that a run is on: its device, threads and memory. PyTorch is loaded by those who need it."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from prismrec import __version__
from prismrec.errors import PrismError

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one; asking for CUDA where there is none is an error."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        found = f"{count} CUDA device{'s' * (count > 1)}, the first is cuda:0" if count else "no CUDA device"
        raise PrismError(f"The device asked for is {name}, but this PyTorch sees {found}. Use --device cpu or auto.")
    return device


@contextmanager
def cpu_threads(n: int) -> Iterator[None]:
    """``n`` CPU threads, or all cores for 0; afterwards as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n or available_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> int:
    """The cores this process may use: what ``OMP_NUM_THREADS`` allows, else those that it may run on."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    if allowed.isdecimal() and int(allowed):
        return int(allowed)
    return cores()


def cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once(device: str, threads: int) -> int:
    """How many runs this machine takes side by side: one on CUDA, which they would share; else a core for each thread."""
    return 1 if pick_device(device).type == "cuda" else max(1, cores() // max(1, threads))


@contextmanager
def memory_kept() -> Iterator[None]:
    """Meanwhile, memory that this process frees stays with it; afterwards what is free goes back. Of use on glibc alone.

    A training step frees tables of many MB and asks for as many again. glibc would return them to the system and take them
    back page by page, each zeroed anew, at up to half the time of an epoch.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    if not libc.mallopt(_MMAP_THRESHOLD, 1 << 30):
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that older versions take
    libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)  # where glibc's own adjustment ends for who frees large blocks
        libc.mallopt(_TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt in <malloc.h>


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def peak_memory_mb(device: torch.device) -> float | None:
    """The most memory the device (CUDA) or this process (CPU) has held so far, in MB of 2²⁰ bytes; None where unknown."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated(device) / 2**20)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)


def environment() -> dict[str, Any]:
    """What a reader needs to judge a figure: versions, machine, threads."""
    import torch

    return {
        "prismrec": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
