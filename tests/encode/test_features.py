"""From a data set and a folder to features: what belongs to an item, what is fitted to what, the command and its card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from encoding import as_bytes, picture, shop
from PIL import Image
from program import call

from prismrec.data import prepare, store
from prismrec.data.dataset import PARTS
from prismrec.encode import add_features, contents, features_like, transform
from prismrec.encode.cache import Cache
from prismrec.errors import PrismError


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return shop(tmp_path)


def test_pictures_are_found_by_id_or_by_column_and_stay_in_their_folder(here: Path) -> None:
    data = store.load(here / "data")
    ids = data.items.external.to_list()
    by_id = contents.pictures(data, here / "pictures")
    assert by_id.contents == [here / "pictures" / f"{item}.png" for item in ids] and by_id.columns == ()
    names = [f"{ids[0]}.png", "../../etc/passwd", "/etc/passwd", None, "", "a/../x.png"] + ["no.png"] * (len(ids) - 6)
    named = replace(data, item_table=data.item_table.with_columns(picture=pl.Series(names)))
    found = contents.pictures(named, here / "pictures")
    assert found.columns == ("picture",)
    assert found.contents[:6] == [
        here / "pictures" / f"{ids[0]}.png",
        None,
        None,
        None,
        None,
        here / "pictures" / "x.png",
    ]


def test_texts_are_the_known_columns_or_those_that_are_named(here: Path) -> None:
    data = store.load(here / "data")
    assert contents.texts(data, None).contents[0] == b"a red toy 0 toy"
    assert contents.texts(data, None, ["category"]).contents[:2] == [b"toy", b"car"]
    lists = [["a", None, "b|c"], [], None] + [["x"]] * (data.n_items - 3)
    table = data.item_table.select("item").with_columns(tags=pl.Series(lists, dtype=pl.List(pl.String)))
    found = contents.texts(replace(data, item_table=table), None, ["tags"]).contents
    assert found[:4] == [b"a, b, c", None, None, b"x"]


def test_what_cannot_be_found_is_said(here: Path) -> None:
    data = store.load(here / "data")
    bare = replace(data, item_table=data.item_table.select("item"))
    for fault, words in (
        (lambda: contents.pictures(data, None), "--images DIR"),
        (lambda: contents.pictures(data, here / "nowhere"), "is no folder"),
        (lambda: contents.pictures(data, here / "data"), "called like an item"),
        (lambda: contents.pictures(data, here / "pictures", ["cover"]), "no column 'cover'"),
        (lambda: contents.pictures(data, here / "pictures", ["item", "title"]), "one column names"),
        (lambda: contents.texts(bare, None), "no column that is known to hold text"),
        (lambda: contents.texts(data, here / "pictures"), "leave --images out"),
        (lambda: add_features(data, "image", images=here / "pictures", dtype="int8"), "take float32 or float16"),
        (lambda: features_like(data, "image", [None]), "not made by PrismRec"),
    ):
        with pytest.raises(PrismError, match=words):
            fault()


def test_features_are_fitted_to_items_of_training_rows_and_travel_with_the_data(here: Path) -> None:
    data = store.load(here / "data")
    rows = data.interactions
    assert rows.split is not None
    hidden = int(data.items.external.len()) - 1
    keep = (rows.item != hidden) | (rows.split != PARTS["train"])
    data = replace(data, interactions=rows.take(keep))
    one, made = add_features(data, "image", images=here / "pictures", chain="pca:3")
    # another picture of an item that nobody took in training moves nothing but that item
    picture(77).save(here / "pictures" / f"{data.items.external[hidden]}.png")
    two, _ = add_features(data, "image", images=here / "pictures", chain="pca:3")
    assert np.array_equal(one.modalities["image"].values[:hidden], two.modalities["image"].values[:hidden])
    assert not np.array_equal(one.modalities["image"].values[hidden], two.modalities["image"].values[hidden])
    assert made.fitted_to < data.n_items
    everything, _ = add_features(data, "image", images=here / "pictures", chain="pca:3", fit_on="all")
    assert not np.array_equal(everything.modalities["image"].values[0], two.modalities["image"].values[0])
    store.save(prepare.prepare(two, k_core=(2, 2)), here / "out")
    back = store.load(here / "out", verify="full")
    assert transform.written(back.modalities["image"].transform) == "pca:3"
    assert "handcrafted" in [step.get("encoder") for step in back.provenance["steps"]]


def test_new_items_get_features_like_those_of_the_catalogue(here: Path) -> None:
    data, _ = add_features(
        store.load(here / "data"), "image", images=here / "pictures", chain="standardise,pca:3", dtype="float16"
    )
    old = data.modalities["image"]
    files = contents.pictures(data, here / "pictures").contents
    like = features_like(data, "image", [files[3], None, as_bytes(picture(50))])
    assert like.present.tolist() == [True, False, True] and like.values.dtype == np.float16
    assert np.array_equal(like.values[0], old.values[3]) and not like.values[1].any()
    steps = [{**data.provenance["steps"][-1], "key": "0" * 32}]
    with pytest.raises(PrismError, match="is not the one that made"):
        features_like(replace(data, provenance={"steps": steps}), "image", [None])


def test_the_command_counts_what_it_meets_and_writes_a_card(here: Path) -> None:
    folder = here / "pictures"
    ids = [path.stem for path in sorted(folder.iterdir(), key=lambda p: int(p.stem) if p.stem.isdecimal() else 0)]
    (folder / f"{ids[0]}.png").write_bytes(b"<html>")
    (folder / f"{ids[1]}.png").unlink()
    (folder / f"{ids[3]}.png").write_bytes((folder / f"{ids[2]}.png").read_bytes())
    Image.new("L", (30, 30), 90).save(folder / f"{ids[4]}.png")
    said = call(
        "data", "encode", here / "data", "-m", "image", "--images", folder, "-o", here / "one", "--dtype", "float16"
    )
    assert said.status == 0, said.err
    for words in (
        "18 of 20 items have image features (90.0%)", "no picture of a known format (1)", "none given (1)",
        "Handled: greyscale (1)", "1 item repeats the image of another", "Data card: ",
    ):  # fmt: skip
        assert words in said.sentence, words
    cards = here / "one" / "cards" / "image"
    card = json.loads((cards / "card.json").read_text())
    assert card["present"] == 18 and card["reasons"]["none given"] == [1, [ids[1]]] and card["encoder"] == "handcrafted"
    with Image.open(cards / "neighbours.png") as sheet:
        assert sheet.width > 1000
    page = (cards / "index.html").read_text()
    assert page.count("data:image/jpeg") == sum(1 + len(near) for _, near in card["neighbours"])
    # texts onto the result, under another name: pictures, their transform and their card stay
    said = call("data", "encode", here / "one", "-m", "text", "--column", "title", "-o", here / "one", "--overwrite",
                "--as", "words", "--encoder", "minilm", "--transform", "unit")  # fmt: skip
    assert said.status == 0, said.err
    both = store.load(here / "one", verify="full")
    assert both.modalities.keys() == {"image", "words"} and both.modalities["words"].width == 384
    assert both.modalities["image"].values.dtype == np.float16 and both.modalities["image"].transform
    assert (cards / "card.json").exists() and (here / "one" / "cards" / "words" / "index.html").exists()


def test_ctrl_c_says_how_to_go_on_and_what_was_encoded_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Cache.put

    def put(self: Cache, known: dict) -> None:
        whole(self, known)
        raise KeyboardInterrupt

    monkeypatch.setenv("PRISMREC_CACHE", str(here / "cache"))
    words = [
        "data",
        "encode",
        here / "data",
        "-m",
        "image",
        "--images",
        here / "pictures",
        "--batch",
        "4",
        "-o",
        here / "two",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Cache, "put", put)
        said = call(*words)
    assert said.status == 130 and f"Go on with: prismrec data encode {here / 'data'} -m image" in said.sentence
    assert not (here / "two").exists()
    assert call(*words).status == 0
    card = json.loads((here / "two" / "cards" / "image" / "card.json").read_text())
    assert (card["encoded"], card["known"]) == (16, 4)


def test_the_list_of_encoders() -> None:
    rows = json.loads(call("data", "encoders", "--format", "json").out)
    assert [row["name"] for row in rows if row["default of"]] == ["handcrafted", "minilm"]
    assert "no weights needed" in call("data", "encoders").out
