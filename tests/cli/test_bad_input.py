"""Bad input: one clear sentence with the offending value and what to do, status 2, no traceback, earlier results untouched."""

from __future__ import annotations

import errno
import os
import pickle
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from program import Said, call, dataset, planted, snapshot
from safetensors.torch import load_file, save_file

from prismrec import io
from prismrec.data import store
from prismrec.data.dataset import PARTS, Dataset

DATA = dataset()
QUICK = ["--threads", "1", "--quiet", "--set", "train.epochs=2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a finished run, a log, an item table and features: what tests then spoil copies of."""
    folder = tmp_path_factory.mktemp("made")
    planted(folder / "data")
    run = ["train", folder / "data", "-m", "vbpr", "--set", "model.dim=8", *QUICK, "-o", folder / "run"]
    assert call(*run).status == 0
    rows = DATA.interactions
    log = {"user": DATA.users.decode(rows.user), "item": DATA.items.decode(rows.item)}
    pl.DataFrame(log).write_csv(folder / "log.csv")
    DATA.item_table.write_csv(folder / "items.csv")
    np.save(folder / "image.npy", DATA.modalities["image"].values)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that, in the current folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    before = snapshot(folder)
    yield
    assert snapshot(folder) == before


def refused(said: Said, *parts: str) -> None:
    """A sentence on stderr that holds all ``parts``, and nothing else that would alarm anybody."""
    assert said.status == 2, said.err
    assert said.out == "" and "Traceback" not in said.err and "fault of prismrec" not in said.err
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("Error: ") and said.err.count("Error: ") == 1
    for part in parts:
        assert part in last, f"{part!r} is not in: {last}"


def keep(data: Dataset, rows: np.ndarray) -> Dataset:
    return replace(data, interactions=data.interactions.take(rows))


# what is asked for: settings, ids, folders


TRAIN = [
    ("-m brp", ["no model 'brp'", "Did you mean 'bpr'"]),
    ("", ["No model is named", "--model NAME"]),
    ("-m vbpr -p cleer", ["no plug-in 'cleer'", "Did you mean 'clear'"]),
    ("-m lightgcn --set model.layer=2", ["Unknown setting model.layer", "Did you mean 'layers'"]),
    ("-m lightgcn --set model.layers=two", ["model.layers is 'two'", "expected an integer"]),
    ("-m lightgcn --set model.layers=-1", ["model.layers is -1", "greater than or equal to 0"]),
    ("-m bpr --set train.lr=fast", ["train.lr is 'fast'", "expected a number"]),
    ("-m bpr --set trian.lr=1", ["no section 'trian'", "Did you mean 'train'"]),
    ("-m bpr --set epochs", ["'epochs' is no assignment", "section.key=value"]),
    ("-m vbpr --set clear.rank=2", ["plug-in 'clear'", "add --plugin clear"]),
    ("-m vbpr -p clear --set clear.rank=100", ["clear.rank is 100", "between 1 and"]),
    ("-m bpr --set train.metric=recal@20", ["'recal@20' is unknown", "Did you mean 'recall'"]),
    ("-m bpr --set run.metrics=[]", ["run.metrics is []", "at least one"]),
    ("-m bpr --device gpu", ["run.device is 'gpu'", "cuda:N"]),
    ("-m bpr --threads -1", ["run.threads is -1"]),
    ("-m bpr --config none.yaml", ["none.yaml does not exist"]),
    ("-m bpr --out run", ["run already holds a run", "prismrec train --resume run"]),
    ("-m bpr --out data", ["data exists and holds no run", "name another"]),
    ("-m bpr --out log.csv", ["log.csv exists and holds no run"]),
    ("-m freedom --set 'model.weights={sound: 1.0}'", ["modality 'sound'", "Known: image, text"]),
]


@pytest.mark.parametrize(("arguments", "parts"), TRAIN)
def test_settings_of_training(here: Path, arguments: str, parts: list[str]) -> None:
    with unchanged(here):
        refused(call("train", "data", *shlex.split(arguments)), *parts)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(here: Path) -> None:
    with unchanged(here):
        refused(
            call("train", "data", "-m", "bpr", "--device", "cuda"),
            "device asked for is cuda",
            "no CUDA device",
            "--device cpu",
        )


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("model: {name: bpr}\ntrain: {epoch: 3}\n", ["Unknown setting train.epoch", "Did you mean 'epochs'"]),
        ("modle: {name: bpr}\n", ["Unknown setting 'modle'", "Did you mean 'model'"]),
        ("model: bpr\n", ["model is 'bpr'", "{name: bpr}"]),
        ("model: {name: lightgcn, layers: '2'}\n", ["model.layers is '2'", "expected an integer"]),
        ("model: {name: bpr\n", ["x.yaml is not valid YAML"]),
        ("- bpr\n", ["x.yaml holds list"]),
        ("model: !!python/name:os.system\n", ["x.yaml is not valid YAML"]),
    ],
)
def test_settings_in_a_file(here: Path, content: str, parts: list[str]) -> None:
    Path("x.yaml").write_text(content)
    with unchanged(here):
        refused(call("train", "data", "--config", "x.yaml"), *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("recommend run --user nobody", ["user 'nobody'", "60 known users", "'u00000'"]),
        ("recommend run --user u00001 --user u1 --user u2", ["user 'u1'", "1 other"]),
        ("recommend run --user u00001 --top 41", ["k is 41", "catalogue has 40 items"]),
        ("recommend run --user u00001 --top 0", ["k is 0"]),
        ("recommend run --user u00001 --modality sound", ["modality 'sound'", "image, text"]),
        ("recommend run", ["--user ID", "--all"]),
        ("recommend run --all --user u00001", ["--user ID", "--all"]),
        ("recommend run --all", ["-o recs.parquet"]),
        ("recommend run --all -o recs.xlsx", ["recs.xlsx ends in .xlsx", ".parquet, .csv or .json"]),
        ("recommend none --user u00001", ["none is no run folder", "prismrec train"]),
        ("recommend data --user u00001", ["data is no run folder"]),
        ("evaluate", ["a run folder or --scores"]),
        ("evaluate run --metric recal@20", ["'recal@20' is unknown", "Did you mean 'recall'"]),
        ("evaluate run --metric recall", ["'recall' is not of the form name@K", "recall@20"]),
        ("evaluate run --data log.csv", ["was trained on data with fingerprint"]),
        ("evaluate --scores image.npy", ["--scores needs --data"]),
        ("evaluate --scores none.npz --data data", ["none.npz"]),
        ("evaluate none", ["none is no run folder"]),
        ("train --resume none", ["none is no run folder"]),
        ("train --resume run --seed 3 --set train.lr=1", ["leave out --set, --seed"]),
        ("train", ["No data is named", "prismrec train data/baby"]),
        ("train dta -m bpr", ["There is no dta", "Did you mean 'data'"]),
        ("train log.csv -m bpr", ["no split yet", "prismrec data split"]),
    ],
)
def test_what_is_asked_of_runs_and_data(here: Path, arguments: str, parts: list[str]) -> None:
    with unchanged(here):
        refused(call(*arguments.split()), *parts)


def test_an_unknown_protocol_or_format_shows_the_known_ones(here: Path) -> None:
    for arguments in (
        "train data -m bpr --protocol mmrc",
        "evaluate run --protocol mmrc",
        "recommend run -u u00001 -f xml",
    ):
        with unchanged(here):
            said = call(*arguments.split())
        assert said.status == 2 and "Traceback" not in said.err
        assert ("mmrc" in said.err and "mmrec" in said.err) or ("xml" in said.err and "csv" in said.err)


# what is in the data


IMPORT = ["data", "import", "log.csv", "--items", "items.csv", "-o", "new", "--feature"]


def spoilt(how: str) -> None:
    values = np.load("image.npy")
    if how in ("nan", "inf"):
        values[[3, 7], 2] = np.nan if how == "nan" else np.inf
    elif how == "short":
        values = values[:-1]
    elif how == "flat":
        values = values[0]
    elif how == "words":
        values = np.full(values.shape, "a")
    np.save("image.npy", values)
    if how == "truncated":
        Path("image.npy").write_bytes(Path("image.npy").read_bytes()[:-64])
    elif how == "pickled":
        Path("image.npy").write_bytes(pickle.dumps(values))
    elif how == "objects":
        np.save("image.npy", np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        ("nan", ["'image' hold NaN or Inf in 2 of 40 rows (first: 3, 7)", "--nan missing"]),
        ("inf", ["'image' hold NaN or Inf in 2 of 40 rows", "--nan missing"]),
        ("short", ["39 rows", "40 items", "one row per item"]),
        ("flat", ["64 rows", "40 items"]),
        ("words", ["image"]),
        ("truncated", ["image.npy cannot be read"]),
        ("pickled", ["image.npy cannot be read", "never loaded"]),
        ("objects", ["image.npy cannot be read", "never loaded"]),
    ],
)
def test_features_that_cannot_be_used(here: Path, how: str, parts: list[str]) -> None:
    spoilt(how)
    with unchanged(here):
        refused(call(*IMPORT, "image=image.npy"), *parts)


def test_all_zero_rows_are_counted_as_missing_and_a_table_of_zeros_trains_nothing(here: Path) -> None:
    values = np.load("image.npy")
    values[[1, 2]] = 0
    np.save("image.npy", values)
    said = call(*IMPORT, "image=image.npy")
    lacking = (~DATA.modalities["image"].present) | np.isin(np.arange(DATA.n_items), [1, 2])
    assert said.status == 0 and f"{lacking.sum()} of 40 items lack image and are marked missing" in said.err
    np.save("image.npy", np.zeros_like(values))
    call(*[word if word != "new" else "zeros" for word in IMPORT], "image=image.npy")
    call("data", "split", "zeros", "-o", "zeros-split", "-q")
    with unchanged(here):
        refused(
            call("train", "zeros-split", "-m", "vbpr"),
            "No item of 'log' has the modality 'image'",
            "zero in all 40 rows",
        )


def test_wrong_columns(here: Path) -> None:
    with unchanged(here):
        refused(call("data", "import", "log.csv", "--user", "uid", "-o", "new"), "no column 'uid'", "'user', 'item'")
        refused(call("data", "import", "log.csv", "--items", "items.csv", "--item-id", "sku", "-o", "new"), "'sku'")


def test_features_and_items_that_do_not_match(here: Path) -> None:
    """An item of the log that stands in no row of the table has no features: it is counted, never given somebody else's."""
    text = Path("log.csv").read_text()
    Path("log.csv").write_text(text + "u00001,i99999\n")
    said = call(*IMPORT, "image=image.npy")
    lacking = int((~DATA.modalities["image"].present).sum()) + 1
    assert said.status == 0 and f"{lacking} of 41 items lack image and are marked missing" in said.err


@pytest.mark.parametrize("gone", ["train", "valid", "test"])
def test_an_empty_part(here: Path, gone: str) -> None:
    split = DATA.interactions.split
    assert split is not None
    store.save(keep(DATA, split != PARTS[gone]), here / "partial")
    with unchanged(here):
        refused(call("train", "partial", "-m", "bpr"), f"The {gone} part of 'planted' is empty", "prismrec data split")


def test_an_empty_log(here: Path) -> None:
    Path("empty.csv").write_text("user,item\n")
    with unchanged(here):
        refused(call("data", "import", "empty.csv", "-o", "new"), "empty.csv")


def test_a_user_without_positives_is_ranked_by_what_the_model_knows(here: Path) -> None:
    """No error: users without a training row exist in real data; whoever has nothing gets a list all the same."""
    rows = DATA.interactions
    assert rows.split is not None
    store.save(keep(DATA, (rows.user != 3) | (rows.split != PARTS["train"])), here / "cold")
    for model in ("bpr", "itemknn", "freedom", "ease", "mostpop", "lightgcn", "vbpr"):
        assert call("train", "cold", "-m", model, *QUICK, "-o", f"cold-{model}").status == 0
        said = call("recommend", f"cold-{model}", "-u", "u00003", "-k", "5", "-f", "csv")
        assert said.status == 0 and len(said.out.splitlines()) == 6


def test_a_user_who_owns_everything_leaves_no_negative(here: Path) -> None:
    rows = DATA.interactions
    extra = np.arange(DATA.n_items, dtype=np.int32)
    assert rows.split is not None
    more = replace(
        rows,
        user=np.concatenate([rows.user, np.zeros_like(extra)]),
        item=np.concatenate([rows.item, extra]),
        split=np.concatenate([rows.split, np.zeros(len(extra), np.int8)]),
        timestamp=None,
    )
    store.save(replace(DATA, interactions=more), here / "greedy")
    with unchanged(here):
        refused(call("train", "greedy", "-m", "bpr"), "User number 0 has all 40 items", "no negative exists")


def test_a_model_that_needs_what_the_data_lack(here: Path) -> None:
    store.save(replace(DATA, modalities={}), here / "plain")
    store.save(replace(DATA, modalities={"image": DATA.modalities["image"]}), here / "one")
    with unchanged(here):
        refused(
            call("train", "plain", "-m", "freedom"),
            "freedom needs at least 1 modality; the data offers none",
            "Add features",
        )
        refused(call("train", "plain", "-m", "vbpr"), "vbpr needs at least 1 modality")
        refused(call("train", "one", "-m", "vbpr", "-p", "clear"), "clear needs at least two")
        refused(call("train", "one", "-m", "bpr", "-p", "clear"), "clear needs at least two", "bpr")


@pytest.mark.parametrize("file", ["interactions.parquet", "items.parquet", "features/image.npy", "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_data_set_that_was_damaged(here: Path, file: str, how: str) -> None:
    path = here / "data" / file
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if how == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    with unchanged(here):
        refused(call("train", "data", "-m", "bpr"), "data")


# what a run has kept


def index_files(run: Path) -> list[Path]:
    return sorted(path for path in (run / "index").iterdir())


@pytest.mark.parametrize("command", ["recommend run --user u00001", "evaluate run"])
@pytest.mark.parametrize("how", ["cut", "tampered", "pickled", "gone"])
def test_representations_that_were_damaged(here: Path, command: str, how: str) -> None:
    (path,) = (here / "run" / "index").glob("reps*.safetensors")
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif how == "tampered":
        tensors = load_file(path)
        tensors["fused.user"].add_(1)
        save_file(tensors, path)
    elif how == "pickled":
        torch.save({"fused.user": torch.zeros(1)}, path)
    else:
        path.unlink()
    with unchanged(here):
        refused(call(*command.split()), path.name)


def test_a_result_that_was_damaged(here: Path) -> None:
    Path("run/result.json").write_text('{"model": ')
    with unchanged(here):
        refused(call("recommend", "run", "--user", "u00001"), "result.json is not valid JSON")


def test_a_run_that_is_not_finished(here: Path) -> None:
    Path("run/result.json").unlink()
    with unchanged(here):
        for command in ("recommend run --user u00001", "evaluate run"):
            refused(call(*command.split()), "holds no result yet", "prismrec train --resume run")


# the machine


WRITTEN = ["result.json", "config.yaml", "metrics.jsonl", "checkpoint.json", "test.parquet", "last-2.safetensors"]


@pytest.mark.parametrize("fail_at", WRITTEN)
def test_a_full_disk_while_training(here: Path, fail_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever file finds no room: a sentence; what was there is as it was, and the run goes on once there is room."""
    full_at(monkeypatch, fail_at)
    with unchanged(here / "run"), unchanged(here / "data"):
        said = call("train", "data", "-m", "vbpr", "--set", "model.dim=8", *QUICK, "-o", "new")
    refused(said, "The disk is full", "run again", "untouched")
    assert not (here / "new" / "result.json").exists()
    assert not list((here / "new").rglob("*.part"))
    monkeypatch.undo()
    monkeypatch.chdir(here)
    begun = (here / "new" / "config.yaml").exists()
    again = ["--resume", "new", "-q"] if begun else ["data", "-m", "vbpr", "--set", "model.dim=8", *QUICK, "-o", "new"]
    assert call("train", *again).status == 0
    first, second = (load_file(next((here / run / "index").glob("reps*"))) for run in ("run", "new"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def full_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    replace_ = Path.replace

    def no_room(path: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return replace_(path, target)

    monkeypatch.setattr(Path, "replace", no_room)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("suffix", ["parquet", "csv", "json"])
def test_lists_that_find_no_room(here: Path, suffix: str) -> None:
    """A device that is always full stands where the temporary file would be; the earlier file stays."""
    out = here / f"recs.{suffix}"
    assert call("recommend", "run", "--all", "-o", out).status == 0
    before = out.read_bytes()
    (here / f"{out.name}.{os.getpid()}.part").symlink_to("/dev/full")
    refused(call("recommend", "run", "--all", "--top", "30", "-o", out), "The disk is full")
    assert out.read_bytes() == before and not list(here.glob("*.part"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    refused(call("train", "data", "-m", "mostpop", "-o", "locked/run"), "Permission denied", "locked")


def test_no_memory_for_a_width(here: Path) -> None:
    with unchanged(here):
        said = call("train", "data", "-m", "bpr", "--set", "model.dim=10000000000000")
    refused(said, "not enough memory", "model.dim")


def test_a_loss_that_explodes_says_which_term_when_and_what_to_do(here: Path) -> None:
    with unchanged(here / "run"):
        wild = ["--set", "train.lr=1e30", "--set", "train.optimizer=sgd"]
        said = call("train", "data", "-m", "vbpr", *QUICK, *wild, "-o", "new")
    refused(said, "The loss term", "in epoch", "Lower train.lr", "train.clip")


def test_debug_shows_the_traceback_of_bad_input(here: Path) -> None:
    from prismrec.errors import PrismError

    with pytest.raises(PrismError, match="no model 'brp'"):
        call("train", "data", "-m", "brp", "--debug")


def test_a_lock_is_told_from_other_faults(here: Path) -> None:
    with io.locked(here / "run"):
        Path("run/result.json").unlink()
        refused(call("train", "--resume", "run", "-q"), "being written by another process")
