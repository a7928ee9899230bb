"""Files written whole or not at all, and the checksums that prove it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prismrec.errors import PrismError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


LOCK = ".lock"
_PART = ".part"
# what polars and safetensors say; 112 is ERROR_DISK_FULL
_FULL = ("No space left on device", "os error 28", "os error 112", "Disk quota exceeded")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it is flushed to disk and takes the name, on failure it goes.

    A process that is killed leaves its ``.part`` behind, which counts for nothing; see ``remove_parts``.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}{_PART}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
        _sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make a renaming last through a loss of power, before anything that relies on it is removed."""
    if sys.platform != "win32":  # where a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_parts(folder: str | Path) -> None:
    """Drop what killed processes left half written in a folder that nobody else writes to."""
    for path in Path(folder).iterdir():
        if leftover(path) and path.name != LOCK:
            path.unlink(missing_ok=True)


def leftover(path: Path) -> bool:
    """Whether a file is no result but what a process that was killed may leave: half a file (ours, of safetensors), a lock."""
    return path.name == LOCK or path.name.endswith(_PART) or path.name.startswith(".tmp")


def vacant(folder: Path) -> bool:
    """Whether a folder is free to be written: not there, or with nothing in it but what a killed process left."""
    return not folder.exists() or (folder.is_dir() and all(leftover(entry) for entry in folder.iterdir()))


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Holds a folder for this process; one that another process holds is refused.

    The system lets go when a process ends, however it ends. A file system without locks protects nobody.
    """
    with (Path(folder) / LOCK).open("a") as file:
        if not _lock(file.fileno()):
            raise PrismError(
                f"{folder} is being written by another process. Wait until it has ended, or name another folder with --out."
            )
        yield


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


def disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full, in whatever words the library that wrote has for it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in _FULL)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` atomically."""
    with atomic(path) as part:
        part.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically, with Unix line ends everywhere."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; a missing or broken one is a PrismError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PrismError(f"{path} does not exist; expected a file that PrismRec wrote there.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PrismError(f"{path} is not valid JSON ({error}); it was cut short or changed by hand.") from None


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> str:
    """Write named tensors as safetensors, atomically; returns the file's SHA-256."""
    from safetensors.torch import save_file  # late: most commands never touch a tensor

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return _save(path, lambda part: save_file(ready, part))


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> str:
    """``save_tensors`` of NumPy arrays, without torch."""
    import numpy as np
    from safetensors.numpy import save_file

    ready = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return _save(path, lambda part: save_file(ready, part))


def _save(path: str | Path, write: Callable[[Path], None]) -> str:
    from safetensors import SafetensorError

    with atomic(path) as part:
        part.touch()
        mode = part.stat().st_mode  # as of any other file: safetensors lets nobody but the owner read its own
        try:
            write(part)
        except SafetensorError as error:  # what any other writer would have raised
            raise OSError(errno.ENOSPC if disk_full(error) else errno.EIO, str(error), str(path)) from error
        part.chmod(mode)
        return sha256(part)


def load_tensors(path: str | Path, digest: str | None = None) -> dict[str, Tensor]:
    """Read named tensors; a file that is missing, cut short, changed (``digest``) or no safetensors is refused."""
    from safetensors.torch import load_file

    return load_file(_whole(path, digest))


def load_arrays(path: str | Path, digest: str | None = None) -> dict[str, np.ndarray]:
    """``load_tensors`` as NumPy arrays, without torch."""
    from safetensors.numpy import load_file

    return load_file(_whole(path, digest))


def _whole(path: str | Path, digest: str | None) -> Path:
    """The path of a safetensors file that can be read."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise PrismError(
            f"{path} does not exist; the run it belongs to is incomplete. Train again or name another run."
        )
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        with path.open("rb") as file:
            head = file.read(4)
        # a safetensors file can begin with the same bytes: only one that cannot be read is called a pickle
        if head[:1] == b"\x80" or head == b"PK\x03\x04":
            raise PrismError(
                f"{path} is a pickle or a zipped torch file, not safetensors; PrismRec never opens pickles, since they can "
                "run code. Convert it with safetensors.torch.save_file."
            ) from None
        raise PrismError(f"{path} is not a whole safetensors file ({error}); restore it from a copy.") from None
    if digest is not None and sha256(path) != digest:
        raise PrismError(
            f"{path} does not match its checksum: it was changed after it was written. Restore it from a copy, or train again."
        )
    return path
