"""Raw files as streams: plain, gzip or Zstandard; lines, JSON records and delimited rows, what is wrong with them counted.

A file is read in blocks and never stands in memory; what it is packed with is seen from its first bytes, not from its name.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from prismrec.errors import PrismError

LONGEST = 16 * 2**20
"""Bytes of the longest line that is read; a longer one is a bad line."""
_BLOCK = 1 << 20
_ZST_BLOCK = 1 << 16  # packed; what comes of it can be thousands of times as long
_SHOWN = 80  # characters of a bad line that a message shows

Watch = Callable[[Path, int, int], None]
"""Called now and then with a file, the bytes of it that were read, and its size."""


def silent(path: Path, done: int, of: int) -> None:
    """A ``Watch`` that says nothing."""


@dataclass
class Tally:
    """What was found in the files: file name → what → how many; and the first bad line of each file, in words."""

    found: dict[str, Counter[str]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, what: str, n: int = 1) -> None:
        """``n`` more of ``what`` in a file."""
        self.found.setdefault(path.name, Counter())[what] += n

    def bad(self, path: Path, line: int, reason: str, text: str = "") -> None:
        """A line that is left out."""
        self.add(path, reason)
        shown = text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")
        self.first.setdefault(path.name, f"line {line:,}: {reason}{f': {shown!r}' if shown else ''}")

    def as_dict(self) -> dict[str, dict[str, int]]:
        """For provenance."""
        return {name: dict(counts) for name, counts in self.found.items()}

    def sentences(self) -> list[str]:
        """One per file, for people."""
        return [
            f"{name}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items())
            + (f" (first, {self.first[name]})" if name in self.first else "")
            for name, counts in self.found.items()
        ]  # fmt: skip


@dataclass
class Reading:
    """What a reader works with: a folder for blocks that do not fit memory, what it counts, who watches."""

    folder: Path
    tally: Tally = field(default_factory=Tally)
    watch: Watch = silent


def blocks(path: Path, reading: Reading) -> Iterator[bytes]:
    """The content of a file, unpacked, a part at a time. Raises ``PrismError`` for a file that is not there."""
    if not path.is_file():
        raise PrismError(f"There is no file {path}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic == b"PK\x03\x04":
            what = "an Excel workbook; save it as CSV" if path.suffix == ".xlsx" else "a zip archive; unpack it"
            raise PrismError(f"{path} is {what}, and name what comes of it.")
        if magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as content:
                source: Iterator[bytes] = iter(lambda: content.read(_BLOCK), b"")
                for block in source:
                    yield block
                    reading.watch(path, file.tell(), size)
            return
        source = _unpacked(file, path) if magic == b"\x28\xb5\x2f\xfd" else iter(lambda: file.read(_BLOCK), b"")
        for block in source:
            yield block
            reading.watch(path, file.tell(), size)


def _unpacked(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Zstandard, one frame after another. Raises ``EOFError`` where the last one is cut short."""
    new = _zstandard(path)
    one, part = new(), b""
    while part or (part := file.read(_ZST_BLOCK)):
        if one.eof:
            one = new()
        yield one.decompress(part)
        part = one.unused_data if one.eof else b""
    if not one.eof:
        raise EOFError("its last frame has no end")


def _zstandard(path: Path) -> Callable[[], Any]:
    """What makes a decompressor: Python 3.14's own, before it a package's."""
    with suppress(ModuleNotFoundError):
        return importlib.import_module("compression.zstd").ZstdDecompressor  # type: ignore[no-any-return]
    with suppress(ModuleNotFoundError):
        package = importlib.import_module("zstandard")
        return lambda: package.ZstdDecompressor().decompressobj()
    raise PrismError(
        f'{path} is packed by Zstandard, which needs a package: pip install "prismrec[zst]"; or unpack it: unzstd {path.name}'
    )


def lines(path: Path, reading: Reading) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of each line, without its end; empty lines are left out, endless ones are bad.

    Raises ``PrismError`` where a packed file is cut short or damaged: half a log would be half the truth.
    """
    number, tail, skipping = 0, b"", False
    source = blocks(path, reading)
    while (block := _next(source, path, number)) is not None:
        *whole, rest = block.split(b"\n")
        for line in whole:
            number += 1
            if skipping:
                skipping = False
            elif kept := (tail + line if tail else line).rstrip(b"\r"):
                yield number, kept
            tail = b""
        if not skipping:
            tail += rest
        if len(tail) > LONGEST:
            reading.tally.bad(path, number + 1, "longer than a line can be")
            tail, skipping = b"", True
    if tail := tail.rstrip(b"\r"):
        yield number + 1, tail


def _next(source: Iterator[bytes], path: Path, line: int) -> bytes | None:
    """The next block, None at the end; what the unpacking says of a damaged file becomes a sentence."""
    try:
        return next(source, None)
    except Exception as error:
        damaged = (EOFError, zlib.error, gzip.BadGzipFile)
        if isinstance(error, damaged) or type(error).__name__ == "ZstdError":
            raise PrismError(
                f"{path} is cut short or damaged after line {line:,} ({' '.join(str(error).split())}); fetch it again."
            ) from None
        raise


def decoded(line: bytes) -> str:
    """UTF-8, else Latin-1, which any bytes are: what files of before 2010 are written in."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def first_line(path: Path) -> str:
    """The first line that holds something, "" for an empty file; nothing is counted."""
    for _, line in lines(path, Reading(path.parent)):
        return decoded(line).removeprefix("\ufeff")
    return ""


_JSON = json.JSONDecoder(strict=False)  # control characters in a text are its author's, not a fault of the line


def records(path: Path, reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON object of each line, or the Python literal of it (see ``loose``); other lines are counted as bad.

    Raises ``PrismError`` if most lines are bad: then this is another kind of file.
    """
    tally, good, bad, first = reading.tally, 0, 0, ""
    for number, line in lines(path, reading):
        text = decoded(line).removeprefix("\ufeff")
        try:
            found = _JSON.decode(text)
        except (ValueError, RecursionError):
            try:
                found = loose(text)
            except (ValueError, RecursionError):
                found = None
        if type(found) is dict:
            good += 1
            yield number, found
        else:
            bad += 1
            first = first or text[:_SHOWN]
            tally.bad(path, number, "no record of JSON", text)
    tally.add(path, "records", good)
    if bad > good:
        raise PrismError(
            f"{bad:,} of {good + bad:,} lines of {path} are no records (the first: {first!r}); expected a JSON object on "
            "each line."
        )


_TOKEN = re.compile(
    r"""[uU]?'([^'\\]*(?:\\.[^'\\]*)*)'|[uU]?"([^"\\]*(?:\\.[^"\\]*)*)"|\b(?:True|False|None)\b""", re.DOTALL
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "\n": ""}


def loose(text: str) -> Any:
    """The value of a Python literal of dictionaries, lists, texts, numbers, True, False and None.

    The metadata of Amazon's reviews of 2014 is written so. Each text is rewritten as JSON, and what comes of it is read as
    JSON: nothing is compiled, nothing run. Raises ``ValueError`` for anything else.
    """
    return _JSON.decode(_TOKEN.sub(_as_json, text))


def _as_json(token: re.Match[str]) -> str:
    inner = token[1] if token[1] is not None else token[2]
    if inner is None:
        return _WORDS[token[0]]
    return json.dumps(_ESCAPE.sub(_unescaped, inner) if "\\" in inner else inner)


def _unescaped(escape: re.Match[str]) -> str:
    two, four, eight, octal, letter = escape.groups()
    if code := two or four or eight:
        return chr(min(int(code, 16), 0x110000))  # ValueError above the last character, as Python's own
    if octal:
        return chr(int(octal, 8))
    return _LETTERS.get(letter, letter if letter in "\\'\"" else f"\\{letter}")


def rows(
    path: Path, reading: Reading, delimiter: str, *, width: int | None = None, header: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row of a delimited file; rows of another number of fields than the first are counted as bad.

    ``width``: how many there must be. ``header``: the first row is one, comes too, and counts for nothing. Quotes are read in
    files whose delimiter is a comma or a semicolon; elsewhere they are characters. Raises ``PrismError`` if most rows are bad.
    """
    tally, good, bad, number = reading.tally, 0, 0, 0

    def texts() -> Iterator[str]:
        nonlocal number
        for number, line in lines(path, reading):
            text = decoded(line).replace("\0", "")
            yield (text.removeprefix("\ufeff") if number == 1 else text) + "\n"

    quoted = delimiter in ",;"
    if len(delimiter) > 1:
        source: Iterator[list[str]] = (text[:-1].split(delimiter) for text in texts())
    else:
        source = csv.reader(texts(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    while True:
        try:
            fields = next(source)
        except StopIteration:
            break
        except csv.Error as error:
            bad += 1
            tally.bad(path, number, f"no row ({error})")
            continue
        width = width or len(fields)
        if len(fields) == width:
            good += 1
            yield number, fields
        else:
            bad += 1
            tally.bad(path, number, f"not of {width} fields", delimiter.join(fields))
    good -= header and good > 0
    tally.add(path, "rows", good)
    if bad > good:
        raise PrismError(
            f"{bad:,} of {good + bad:,} rows of {path} cannot be read (first, {tally.first.get(path.name, '')}); expected "
            f"{width} fields with {delimiter!r} between them."
        )


def selected(
    path: Path, reading: Reading, delimiter: str, wanted: Sequence[Sequence[str]]
) -> Iterator[tuple[str | None, ...]]:
    """Of each row the fields of the wanted columns, each by the first of its names that the header has, whatever its case.

    None where the header has none of them, and for an empty field. Raises ``PrismError`` where the header has none of all.
    """
    source = rows(path, reading, delimiter, header=True)
    _, header = next(source, (0, []))
    at = places(header, wanted)
    if not any(place is not None for place in at):
        raise PrismError(
            f"{path} starts with {delimiter.join(header)[:_SHOWN]!r}; expected a header with "
            f"{', '.join(names[0] for names in wanted[:4])}."
        )
    for _, fields in source:
        yield tuple(None if place is None else fields[place].strip() or None for place in at)


def places(header: Sequence[str], wanted: Sequence[Sequence[str]]) -> list[int | None]:
    """Where in a header each of the wanted columns stands."""
    lower = [name.strip().lower() for name in header]
    return [next((lower.index(name.lower()) for name in names if name.lower() in lower), None) for names in wanted]
