"""Vectors remembered by content: the digest of the picture or text, and the key of the encoder. Nothing is encoded twice.

One SQLite file per encoder. A batch is one transaction, so that a process that is killed leaves whole batches and nothing
else; what was kept before a kill is what the next call starts from. Several processes may share a file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prismrec.errors import PrismError

_MANY = 500  # variables of one question; SQLite takes 999 in its oldest versions


@dataclass(frozen=True)
class Known:
    """What is remembered of a content: its vector (width,) float32, and what had to be done to it."""

    vector: np.ndarray
    notes: tuple[str, ...] = ()


class Cache:
    """The vectors of one encoder: digest (32 bytes) → ``Known``. ``close`` it, or use it in a ``with``.

    A file that cannot be read as such is put aside (``.broken``) and made anew. A vector whose checksum is wrong counts as
    absent.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width = path, width
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError:
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{path}{end}").replace(f"{path}{end}.broken")
            self._db = _open(path)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM vectors").fetchone()[0])

    def get(self, digests: Sequence[bytes]) -> dict[bytes, Known]:
        """Those of ``digests`` that are known."""
        found = {}
        for start in range(0, len(digests), _MANY):
            part = digests[start : start + _MANY]
            marks = ",".join("?" * len(part))
            rows = self._db.execute(f"SELECT digest, vector, notes, crc FROM vectors WHERE digest IN ({marks})", part)
            for digest, vector, notes, crc in rows:
                if len(vector) == 4 * self.width and zlib.crc32(vector) == crc:
                    values = np.frombuffer(vector, dtype="<f4").astype(np.float32, copy=False)
                    found[digest] = Known(values, tuple(notes.splitlines()))
        return found

    def put(self, known: Mapping[bytes, Known]) -> None:
        """Keep all of them, or none where the process ends meanwhile."""
        rows = [
            (digest, raw := one.vector.astype("<f4").tobytes(), "\n".join(one.notes), zlib.crc32(raw))
            for digest, one in known.items()
        ]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise PrismError(
                f"The cache {self.path} cannot be written ({error}); free some space, set PRISMREC_CACHE to a folder of your "
                "own, or encode with --no-cache."
            ) from None

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=60)
    try:
        db.execute("PRAGMA page_size=16384")  # a vector is a few thousand bytes: of smaller pages much stays empty
        db.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("CREATE TABLE IF NOT EXISTS vectors (digest BLOB UNIQUE, vector BLOB, notes TEXT, crc INTEGER)")
        db.execute("SELECT digest, vector, notes, crc FROM vectors LIMIT 1").fetchall()
    except sqlite3.Error:
        db.close()
        raise
    return db


def default_path(key: str) -> Path:
    """Where the vectors of the encoder with this key are kept: below ``$PRISMREC_CACHE`` or the user's cache folder."""
    from prismrec.cache import folder

    return folder() / "encode" / f"{key}.sqlite"


@contextlib.contextmanager
def opened(key: str, width: int, *, wanted: bool = True) -> Iterator[Cache | None]:
    """The cache of an encoder, or nothing where none is wanted."""
    if not wanted:
        yield None
        return
    with Cache(default_path(key), width) as cache:
        yield cache
