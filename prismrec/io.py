"""Files written whole or not at all, and the checksums that prove it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prismrec.errors import PrismError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it is flushed to disk and takes the name, on failure it goes."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


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

    with atomic(path) as part:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part)
        return sha256(part)


def load_tensors(path: str | Path, digest: str | None = None) -> dict[str, Tensor]:
    """Read named tensors; a file that is missing, cut short, changed (``digest``) or no safetensors is refused."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise PrismError(
            f"{path} does not exist; the run it belongs to is incomplete. Train again or name another run."
        )
    try:
        with safe_open(path, framework="pt"):
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
    return load_file(path)
