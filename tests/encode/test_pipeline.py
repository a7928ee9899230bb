"""The stream: order, repeated contents, reasons, the cache, threads, and what is left by a call that was killed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from encoding import as_bytes, die_after_batches, picture, shop
from program import call, doomed

from prismrec.data import store
from prismrec.encode import pictures, scratch
from prismrec.encode.base import Encoder, Kind, Ready, Unreadable
from prismrec.encode.cache import Cache, Known
from prismrec.encode.pipeline import NONE, NOT_FINITE, Progress, encode, step


class Lengths(Encoder):
    """A text → its length and its batch's size."""

    kind: ClassVar[Kind] = "text"
    batch: ClassVar[int] = 3
    name, key, width = "lengths", "0" * 32, 2

    def __init__(self) -> None:
        self.batches: list[int] = []

    def prepare(self, content: bytes) -> Ready:
        if content == b"bad":
            raise Unreadable("bad text")
        return Ready(content, ("long",) if len(content) > 5 else ())

    def encode(self, batch: Sequence[Any]) -> np.ndarray:
        self.batches.append(len(batch))
        nan = [float("nan") if text == b"nan" else len(text) for text in batch]
        return np.array([[n, len(batch)] for n in nan], dtype=np.float32)


CONTENTS = [b"aa", None, b"bbbb", b"bad", b"aa", b"cccccc", b"nan", b"bbbb", Path("/nowhere/x"), b"d", b"bad"]


def test_vectors_stand_in_the_order_of_the_contents_and_reasons_are_counted() -> None:
    seen: list[tuple[int, int]] = []
    coder = Lengths()
    out = encode(coder, CONTENTS, workers=2, watch=lambda p: seen.append((p.done, p.without)))
    assert out.present.tolist() == [True, False, True, False, True, True, False, True, False, True, False]
    assert out.values[out.present, 0].tolist() == [2, 4, 2, 6, 4, 1] and not out.values[~out.present].any()
    assert out.reasons == {1: NONE, 3: "bad text", 6: NOT_FINITE, 8: pictures.MISSING, 10: "bad text"}
    assert out.notes == {5: ("long",)} and out.same == {4: 0, 7: 2, 10: 3}
    assert coder.batches == [3, 2]  # five contents: each once, longest first
    assert seen[-1] == (11, 5) and out.progress.encoded == 4 and out.progress.repeated == 3


def test_the_number_of_threads_and_the_first_batch_do_not_matter() -> None:
    many = [bytes([65 + n % 26]) * (n % 9 + 1) for n in range(80)]
    alone, together = encode(Lengths(), many), encode(Lengths(), many, workers=5)
    assert np.array_equal(alone.values, together.values)


def test_a_content_that_comes_again_long_after_is_not_encoded_again() -> None:
    coder = Lengths()
    many = [b"aaaaaa", b"bbbbbb", b"cccccc"] + [b"dddddd", b"aaaaaa", b"bad"] * 30
    out = encode(coder, many, workers=2)
    assert sum(coder.batches) == 4 and out.progress.encoded == 4 and out.progress.done == 93
    assert out.present.sum() == 63 and (out.values[out.present, 0] == 6).all()
    assert set(out.reasons.values()) == {"bad text"} and len(out.notes) == 63


def test_what_the_cache_knows_is_not_encoded_again(tmp_path: Path) -> None:
    first, second, third = Lengths(), Lengths(), Lengths()
    with Cache(tmp_path / "c.sqlite", 2) as cache:
        a = encode(first, CONTENTS, cache=cache)
        b = encode(second, CONTENTS, cache=cache)
        more = encode(third, [*CONTENTS, b"new"], cache=cache)
    assert np.array_equal(a.values, b.values) and a.reasons == b.reasons and a.notes == b.notes
    assert second.batches == [] and third.batches == [1]  # a vector that is not finite is remembered too
    assert b.progress.known == 4 and more.values[-1].tolist() == [3, 1]


def test_a_broken_cache_is_put_aside_and_a_changed_vector_counts_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"no database" * 100)
    vector = np.array([1, 2], np.float32)
    with Cache(path, 2) as cache:
        cache.put({b"a" * 32: Known(vector, ("long", "odd")), b"b" * 32: Known(vector)})
        assert cache.get([b"a" * 32])[b"a" * 32].notes == ("long", "odd")
    assert (tmp_path / "c.sqlite.broken").exists()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE vectors SET vector = ? WHERE digest = ?", (b"\0" * 8, b"a" * 32))
    db.close()
    with Cache(path, 2) as cache:
        assert list(cache.get([b"a" * 32, b"b" * 32, b"c" * 32])) == [b"b" * 32] and len(cache) == 2


def test_one_step_does_what_the_stream_does() -> None:
    out = encode(Lengths(), CONTENTS)
    for position, outcome in enumerate(step(Lengths(), CONTENTS)):
        if isinstance(outcome, Known) and out.reasons.get(position) == NOT_FINITE:
            assert np.isnan(outcome.vector[0])
        elif isinstance(outcome, Known):
            assert outcome.vector[0] == out.values[position, 0]
        else:
            assert outcome == out.reasons[position]


def test_a_table_too_large_for_memory_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = encode(Lengths(), CONTENTS)
    monkeypatch.setattr(scratch, "MEMORY", 0)
    mapped = encode(Lengths(), CONTENTS)
    assert isinstance(mapped.values, np.memmap) and np.array_equal(plain.values, mapped.values)


def test_progress_knows_its_time() -> None:
    assert Progress(3).seconds >= 0


def test_a_call_that_was_killed_goes_on_and_ends_in_the_same_bits(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shop(tmp_path, 23)
    (here / "pictures" / "x.png").write_bytes(as_bytes(picture(99)))
    words = ["data", "encode", here / "data", "-m", "image", "-e", models / "resnet", "--images", here / "pictures",
             "--batch", "5", "--transform", "pca:4", "--workers", "2"]  # fmt: skip
    monkeypatch.setenv("PRISMREC_CACHE", str(tmp_path / "cache1"))
    assert call(*words, "-o", here / "whole").status == 0
    monkeypatch.setenv("PRISMREC_CACHE", str(tmp_path / "cache2"))
    assert doomed([*words, "-o", here / "killed"], die_after_batches, 2, str(tmp_path / "cache2")) == -9
    assert not (here / "killed").exists()
    said = call(*words, "-o", here / "killed")
    assert said.status == 0, said.err
    whole, killed = store.load(here / "whole"), store.load(here / "killed")
    assert whole.fingerprint == killed.fingerprint
    assert whole.modalities["image"].values.tobytes() == killed.modalities["image"].values.tobytes()
    with Cache(next((tmp_path / "cache2" / "encode").glob("*.sqlite")), 20) as cache:
        assert len(cache) == 23
