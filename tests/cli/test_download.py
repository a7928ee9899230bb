"""``prismrec data download``, against a server of this machine."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from program import call

from prismrec.data import public
from prismrec.data.public import PUBLIC, File, fetch
from prismrec.errors import PrismError

CONTENT = bytes(range(256)) * 2000


class Handler(http.server.BaseHTTPRequestHandler):
    ranges: list[str | None] = []  # noqa: RUF012 - what was asked for, for the tests
    cut = 0

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        if self.path != "/file":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + (Handler.cut or len(CONTENT))])

    def log_message(self, *said: object) -> None:
        pass


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Iterator[File]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.ranges, Handler.cut = [], 0
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    digest = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    yield File("x.bin", f"http://127.0.0.1:{server.server_port}/file", len(CONTENT), digest)
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_whole_and_once(file: File, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(file, tmp_path / "raw", lambda done, of: seen.append((done, of)))
    assert path.read_bytes() == CONTENT and seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(file, tmp_path / "raw") == path and len(Handler.ranges) == 1
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["x.bin"]


def test_what_broke_off_is_gone_on_with(file: File, tmp_path: Path) -> None:
    Handler.cut = 100_000
    with pytest.raises(PrismError, match=r"kept for the next call|Run again to go on"):
        fetch(file, tmp_path)
    assert not (tmp_path / "x.bin").exists() and (tmp_path / "x.bin.part").stat().st_size == 100_000
    Handler.cut = 0
    assert fetch(file, tmp_path).read_bytes() == CONTENT and Handler.ranges[-1] == "bytes=100000-"


def test_without_a_published_size_the_servers_length_counts(file: File, tmp_path: Path) -> None:
    bare = replace(file, size=None, md5="")
    (tmp_path / "x.bin.part").write_bytes(CONTENT)  # whole, but never named so
    assert fetch(bare, tmp_path).read_bytes() == CONTENT


def test_another_file_is_refused_and_removed(file: File, tmp_path: Path) -> None:
    with pytest.raises(PrismError, match="not the file that its source describes"):
        fetch(replace(file, md5="0" * 32), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PrismError, match="answers 404"):
        fetch(replace(file, url=file.url + "s"), tmp_path)


def test_without_a_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = replace(public.public_named("ml-100k"), files=(File("a.zip", "http://127.0.0.1:9/a.zip"),))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(public, "PUBLIC", (nowhere,))
    said = call("data", "download", "ml-100k", "-o", tmp_path / "raw")
    assert said.status == 2 and "could not be fetched" in said.sentence
    assert f"put the files into {tmp_path / 'raw'}" in said.sentence


def test_the_command_fetches_and_names_the_next_step(
    file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "PUBLIC", (replace(public.public_named("ml-100k"), files=(file,)),))
    said = call("data", "download", "ml-100k", "-o", tmp_path / "raw")
    assert said.status == 0 and (tmp_path / "raw" / "x.bin").read_bytes() == CONTENT
    assert "checksum as published" in said.err and "prismrec data prepare movielens" in said.out


def test_the_list_and_what_is_had_by_hand() -> None:
    said = call("data", "download")
    assert said.status == 0 and all(one.name in said.out for one in PUBLIC)
    by_hand = call("data", "download", "baby", "-o", "data/baby")
    assert by_hand.status == 0 and "drive.google.com" in by_hand.out and "--data baby=data/baby" in by_hand.out
    assert "Did you mean 'baby'" in call("data", "download", "babi").sentence


def test_every_data_set_of_a_study_is_known() -> None:
    from prismrec.studies.named import names, stated

    needed = {data for name in names() for data in stated(name).data}
    assert needed <= {one.name for one in PUBLIC}
    assert all(file.url.startswith("https://") for one in PUBLIC for file in one.files)
