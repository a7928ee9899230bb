"""Users who asked to be forgotten: a file of digests that all workers share and that outlives exports.

A line is the SHA-256 of an id, in hexadecimal: the file lists nobody by name. It is only ever appended to, a line in one
write, so that any number of processes may write and read it at the same time; a line that a full disk cut short counts for
nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

from prismrec.errors import PrismError

_DIGEST = re.compile(rb"[0-9a-f]{64}")
_PIECE = re.compile(rb"[0-9a-f]{0,64}")


def digest(user: str) -> str:
    """How a user stands in the file."""
    return hashlib.sha256(user.encode()).hexdigest()


class Forgotten:
    """The users that no request may see again. ``path`` is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[str] = set()
        self._read = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise PrismError(
                f"{path} cannot be written ({error.strerror}); it keeps the digests of users to be forgotten. Name a file "
                "that can be with --forgotten."
            ) from None
        if not all(_PIECE.fullmatch(line) for line in path.read_bytes().splitlines()):
            raise PrismError(f"{path} is not a list of digests; restore it from a copy, or name another file.")
        self._refresh()

    def __contains__(self, user: str) -> bool:
        """Whether a user was forgotten, by whichever process."""
        self._refresh()
        return bool(self._known) and digest(user) in self._known

    def __len__(self) -> int:
        self._refresh()
        return len(self._known)

    def add(self, user: str) -> None:
        """Forget a user. On disk when this returns."""
        if user not in self:
            line = f"\n{digest(user)}\n".encode()  # whatever was cut short before stays a line of its own
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, "The disk is full", str(self._path))
            os.fsync(self._file)
            self._refresh()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _refresh(self) -> None:
        size = os.fstat(self._file).st_size  # about a microsecond, and no answer is ever out of date
        start = self._read
        if size <= start:
            return
        more = os.pread(self._file, size - start, start)
        whole = more.rfind(b"\n") + 1
        self._known.update(line.decode() for line in more[:whole].split() if _DIGEST.fullmatch(line))
        self._read = max(self._read, start + whole)  # another thread may have read the same
