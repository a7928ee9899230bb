"""Public data sets: where they live, how their files are fetched and checked, what to do without a network."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prismrec.errors import PrismError, nearest

_BLOCK = 1 << 16
_TIMEOUT = 30.0
_SNAP = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_MMREC = "https://drive.google.com/drive/folders/13cBy1EA_saTUuXxVllKgtfci2A09jyaG"
_TIKTOK = "https://drive.google.com/drive/folders/1hLvoS7F0R_K0HBixuS_OVXw_WbBxnshF"
_AMAZON = "Amazon reviews come without a stated licence, for research."

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that have come, of how many where that is known."""


@dataclass(frozen=True)
class File:
    """A file that a plain request brings. ``size`` in bytes and ``md5`` as its source states them, where it does."""

    name: str
    url: str
    size: int | None = None
    md5: str = ""

    @property
    def verified(self) -> str:
        """What was checked of it, in words."""
        if self.md5:
            return "checksum as published"
        return "size as published" if self.size else "whole by the server's length; its source states no checksum"


@dataclass(frozen=True)
class Public:
    """A data set; without ``files`` it is had by hand from its ``page``.

    ``after``: the commands that follow, with {folder} in them.
    """

    name: str
    about: str
    page: str
    terms: str
    files: tuple[File, ...] = ()
    holds: str = ""
    after: str = ""

    def by_hand(self, folder: Path) -> str:
        """What a person does, where no program can."""
        what = ", ".join(file.url for file in self.files) or f"{self.holds} from {self.page}"
        return f"Fetch {what} in a browser and put the files into {folder}. {self.then(folder)}"

    def then(self, folder: Path) -> str:
        """The next command."""
        return f"{self.terms} Then: {self.after.format(folder=folder)}"


def _benchmark(name: str, shown: str) -> Public:
    holds = f"the folder {name} ({name}.inter, image_feat.npy, text_feat.npy)"
    after = "prismrec data inspect {folder}, and --data " + name + "={folder}"
    about = f"Amazon {shown} as the papers use it: 8:1:1 split, 4096-d image and 384-d text features"
    return Public(name, about, _MMREC, _AMAZON, holds=holds, after=after)


def _raw(name: str, category: str) -> Public:
    files = tuple(File(f, f"{_SNAP}/{f}") for f in (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz"))
    after = f"prismrec data prepare amazon {{folder}}/{files[0].name} {{folder}}/{files[1].name} --split 8:1:1 -o data/{name}"
    return Public(f"{name}-raw", f"Amazon {name}, 5-core reviews and product texts", _SNAP, _AMAZON, files, after=after)


PUBLIC: tuple[Public, ...] = (
    _benchmark("baby", "Baby"),
    _benchmark("sports", "Sports and Outdoors"),
    _benchmark("clothing", "Clothing, Shoes and Jewelry"),
    Public(
        "tiktok",
        "TikTok micro-videos, 128-d features of image and audio",
        _TIKTOK,
        "The source of this data was closed; no licence is stated.",
        holds="a folder of TikTok",
        after="prismrec data prepare tiktok {folder} -o data/tiktok (a folder with an .inter file needs no preparation)",
    ),
    Public(
        "ml-100k",
        "MovieLens 100K: ratings with times, titles, genres; no features",
        "https://grouplens.org/datasets/movielens/100k/",
        "For research; not to be redistributed.",
        (
            File(
                "ml-100k.zip",
                "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                4_924_029,
                "0e33842e24a9c977be4e0107933c0723",
            ),
        ),
        after="unzip it, and prismrec data prepare movielens {folder}/ml-100k --split 8:1:1 -o data/ml-100k",
    ),
    _raw("baby", "Baby"),
    _raw("sports", "Sports_and_Outdoors"),
    _raw("clothing", "Clothing_Shoes_and_Jewelry"),
)
"""In the order in which they are listed. None of the addresses could be tried where this was written."""


def public_named(name: str) -> Public:
    """The data set of a name."""
    known = {one.name: one for one in PUBLIC}
    if name not in known:
        raise PrismError(f"No public data set {name!r} is known. {nearest(name, known)}")
    return known[name]


def fetch(file: File, folder: Path, progress: Progress | None = None) -> Path:
    """Bring a file into a folder, or go on with what an earlier call brought; its path.

    What has come stands in NAME.part, which takes its name once size and checksum are right. A file that stands already is
    checked and not fetched again. Raises ``PrismError`` without a network, for a refusal, and for a file that is not the one
    that its source describes, which is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / file.name, folder / f"{file.name}.part"
    if path.is_file():
        _check(file, path, None)
        return path
    length = _bring(file, part, progress or (lambda done, of: None))
    _check(file, part, length)
    return part.replace(path)


def _bring(file: File, part: Path, progress: Progress) -> int | None:
    """Append what is missing; the length that the server says the whole has."""
    have = part.stat().st_size if part.is_file() else 0
    if file.size is not None and have == file.size:
        return file.size
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            goes_on = answer.status == http.client.PARTIAL_CONTENT
            have = have if goes_on else 0
            left = answer.headers.get("Content-Length")
            length = None if left is None else have + int(left)
            with part.open("ab" if goes_on else "wb") as out:
                while block := answer.read(_BLOCK):
                    out.write(block)
                    have += len(block)
                    progress(have, length)
            return length
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it stands there
            return have
        raise PrismError(f"{file.url} answers {error.code} {error.reason}: the file may have moved.") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise PrismError(
            f"{file.url} could not be fetched ({reason}); what has come is kept for the next call."
        ) from None


def _check(file: File, path: Path, length: int | None) -> None:
    """Refuse a file that is cut short or another one."""
    size = path.stat().st_size
    expected = file.size if file.size is not None else length
    if expected is not None and size < expected:
        raise PrismError(f"{path} has {size:,} of {expected:,} bytes: the connection broke. Run again to go on.")
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as read:
        while block := read.read(1 << 20):
            digest.update(block)
    if (expected is not None and size != expected) or (file.md5 and digest.hexdigest() != file.md5):
        path.unlink()
        raise PrismError(
            f"{file.url} is not the file that its source describes (size or checksum differ); it was removed."
        )
