"""Safetensors files as NumPy arrays over a memory map: nothing is copied, and nothing is believed before it is checked."""

from __future__ import annotations

import errno
import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prismrec import io
from prismrec.errors import PrismError

_TYPES = {"F32": "<f4", "F16": "<f2", "I8": "<i1", "I32": "<i4", "I64": "<i8"}
_LENGTH = 8  # bytes before the header, which say how long it is


def save(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as safetensors to ``path``, which is not yet what anybody reads."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode  # as of any other file: safetensors lets nobody but the owner read its own
    try:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(errno.ENOSPC if io.disk_full(error) else errno.EIO, str(error), str(path)) from error
    path.chmod(mode)


def load(path: Path) -> dict[str, np.ndarray]:
    """Named arrays, read-only views of the file. One that is no whole safetensors file of known types is a ``PrismError``."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if size <= _LENGTH:
            raise PrismError(f"{path} has {size} bytes, which is no safetensors file; restore it from a copy.")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        start, header = _header(mapped, size)
        return {name: _view(mapped, start, size, entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PrismError(f"{path} is not a whole safetensors file ({error}); restore it from a copy.") from None


def _header(mapped: mmap.mmap, size: int) -> tuple[int, dict[str, Any]]:
    length = int.from_bytes(mapped[:_LENGTH], "little")
    if length > size - _LENGTH:
        raise ValueError(f"its header claims {length:,} bytes of {size:,}")
    header = json.loads(mapped[_LENGTH : _LENGTH + length].decode())
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    return _LENGTH + length, header


def _view(mapped: mmap.mmap, start: int, size: int, entry: Mapping[str, Any]) -> np.ndarray:
    dtype, shape, (begin, end) = np.dtype(_TYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise ValueError("a shape or an offset is no count")
    if end - begin != math.prod(shape) * dtype.itemsize or start + end > size:
        raise ValueError(f"a tensor of shape {shape} does not lie within the file")
    return np.frombuffer(mapped, dtype, math.prod(shape), start + begin).reshape(shape)
