"""Files are written whole or not at all, whatever stops the writer."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from prismrec import io
from prismrec.errors import PrismError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    value = {"a": [1, 0.1, None], "ü": "κ"}
    io.write_json(tmp_path / "deep" / "er" / "x.json", value)
    assert io.read_json(tmp_path / "deep" / "er" / "x.json") == value
    io.write_text(tmp_path / "x.txt", "a\nb\n")
    assert (tmp_path / "x.txt").read_bytes() == b"a\nb\n"
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor(7), "t": torch.randn(4, 3).T}
    digest = io.save_tensors(tmp_path / "x.safetensors", tensors)
    assert digest == io.sha256(tmp_path / "x.safetensors")
    read = io.load_tensors(tmp_path / "x.safetensors", digest)
    assert set(read) == set(tensors) and all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "x.safetensors", "x.txt"]


@pytest.mark.parametrize(
    "error", [RuntimeError("a fault"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")]
)
def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.txt"
    io.write_text(path, "before")
    with pytest.raises(type(error)), io.atomic(path) as part:
        part.write_text("half of")
        raise error
    assert path.read_text() == "before" and [entry.name for entry in tmp_path.iterdir()] == ["x.txt"]


def test_not_a_number_is_not_json(tmp_path: Path) -> None:
    io.write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert io.read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize(("content", "said"), [(b'{"a": 1', "not valid JSON"), (b"\xff\xfe", "not valid JSON")])
def test_broken_json_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(PrismError, match=said):
        io.read_json(tmp_path / "x.json")
    with pytest.raises(PrismError, match="does not exist"):
        io.read_json(tmp_path / "y.json")


def test_tensors_that_are_not_what_was_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    digest = io.save_tensors(path, {"a": torch.arange(10)})
    whole = path.read_bytes()
    save_file({"a": torch.arange(10) + 1}, path)
    with pytest.raises(PrismError, match="does not match its checksum"):
        io.load_tensors(path, digest)
    path.write_bytes(whole[:-3])
    with pytest.raises(PrismError, match="not a whole safetensors file"):
        io.load_tensors(path)
    path.write_bytes(b"")
    with pytest.raises(PrismError, match="not a whole safetensors file"):
        io.load_tensors(path)
    with pytest.raises(PrismError, match="incomplete"):
        io.load_tensors(tmp_path / "none.safetensors")


class Trap:
    """A pickle of this runs code when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.remove, ("trapped",)


def test_a_pickle_is_named_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trapped").touch()
    Path("a.safetensors").write_bytes(pickle.dumps(Trap()))
    torch.save({"a": torch.zeros(1)}, "b.safetensors")
    for name in ("a.safetensors", "b.safetensors"):
        with pytest.raises(PrismError, match="never opens pickles"):
            io.load_tensors(name)
    assert Path("trapped").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_tensors_may_be_read_by_whoever_may_read_other_files(tmp_path: Path) -> None:
    io.write_text(tmp_path / "x.txt", "x")
    io.save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x.txt", "x.safetensors")}
    assert len(modes) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_from_other_faults(tmp_path: Path) -> None:
    def written(path: Path) -> None:
        (tmp_path / f"{path.name}.{os.getpid()}.part").symlink_to("/dev/full")
        io.write_json(path, list(range(10_000)))

    with pytest.raises(OSError) as caught:
        written(tmp_path / "x.json")
    assert io.disk_full(caught.value) and list(tmp_path.iterdir()) == []
    for write in (pl.DataFrame.write_parquet, pl.DataFrame.write_csv):
        with pytest.raises((OSError, pl.exceptions.PolarsError)) as other:
            write(pl.DataFrame({"a": range(100_000)}), "/dev/full")
        assert io.disk_full(other.value)
    assert not io.disk_full(OSError(errno.EACCES, "Permission denied")) and not io.disk_full(ValueError("28"))


def test_tensors_on_a_full_disk_are_an_ordinary_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    io.save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)})
    before = (tmp_path / "x.safetensors").read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError) as caught:
        io.save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)})
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_free_if_nothing_of_worth_is_in_it(tmp_path: Path) -> None:
    assert io.vacant(tmp_path / "none") and io.vacant(tmp_path)
    (tmp_path / "result.json.123.part").touch()
    (tmp_path / io.LOCK).touch()
    assert io.vacant(tmp_path)
    (tmp_path / "notes").touch()
    assert not io.vacant(tmp_path) and not io.vacant(tmp_path / "notes")


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with io.locked(tmp_path), pytest.raises(PrismError, match="another process"), io.locked(tmp_path):
        pass
    with io.locked(tmp_path):  # let go
        assert (tmp_path / io.LOCK).exists()


def test_what_killed_writers_leave_is_swept_and_nothing_else(tmp_path: Path) -> None:
    names = ["x.json.17.part", ".tmpAbC12", "x.json", io.LOCK, "part"]
    for name in names:
        (tmp_path / name).write_text(json.dumps(name))
    io.remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["x.json", io.LOCK, "part"])
