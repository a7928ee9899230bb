"""What the API answers: what the Shelf says, and a sentence where it cannot."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shelves import planted

from prismrec.export import Filter, Range, Shelf


@pytest.fixture(scope="session")
def shelf(model: Path) -> Shelf:
    return Shelf.load(model)


def got(client: Any, path: str, **params: Any) -> Any:
    answer = client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def posted(client: Any, path: str, **asked: Any) -> Any:
    answer = client.post(path, json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer: Any) -> list[str]:
    return [card["item"] for card in answer["items"]]


def refused(answer: Any, status: int, words: str) -> None:
    assert answer.status_code == status and words in answer.json()["detail"], answer.text
    assert set(answer.json()) == {"detail"}


def test_a_list_is_what_the_shelf_says(client: Any, shelf: Shelf) -> None:
    for user in ("u00000", "u00007", "u00039"):
        answer = got(client, "/recommend", user=user, k=5)
        expected = shelf.recommend([user], k=5)
        assert ids(answer) == expected["item"].to_list() and answer["basis"] == "user" and answer["user"] == user
        assert [card["title"] for card in answer["items"]] == expected["title"].to_list()
        assert [card["score"] for card in answer["items"]] == pytest.approx(expected["score"].to_list(), rel=1e-5)
    assert len(ids(got(client, "/recommend", user="u00007"))) == 20


@pytest.mark.parametrize("user", ["u00007", "nobody", "Ü &+%"])
@pytest.mark.parametrize("k", [1, 7, 100])
def test_the_express_and_the_usual_way_give_the_same_bytes(client: Any, user: str, k: int) -> None:
    express = client.get("/recommend", params={"user": user, "k": k})
    usual = client.get("/recommend", params={"user": user, "k": k, "exclude_seen": "true"})
    turned = client.get("/recommend", params={"k": k, "user": user})
    assert express.content == usual.content == turned.content and express.status_code == usual.status_code == 200
    assert express.headers["content-type"] == usual.headers["content-type"]


@pytest.mark.parametrize("query", ["user=u00007&k=0", "user=u00007&k=101", "user=u00007&k=x", "k=3", "user=", "user=a&k=%31;",
                                   "user=u00007&k=-1", f"user={'x' * 501}", "user=u00007&k=1.5"])  # fmt: skip
def test_an_impossible_list_is_refused(client: Any, query: str) -> None:
    refused(client.get(f"/recommend?{query}"), 422, "")


def test_an_unknown_user_gets_what_is_popular_and_is_told(client: Any, shelf: Shelf) -> None:
    answer = got(client, "/recommend", user="nobody", k=4)
    assert answer["basis"] == "popular" and ids(answer) == [item for item, _ in shelf.popular(4).rows()[0]]
    assert posted(client, "/recommend", user="nobody", k=4) == answer


def test_a_list_by_one_modality_and_one_with_what_was_seen(client: Any, shelf: Shelf) -> None:
    answer = got(client, "/recommend", user="u00003", k=6, modality="image")
    assert ids(answer) == shelf.recommend(["u00003"], 6, modality="image")["item"].to_list()
    answer = got(client, "/recommend", user="u00003", k=60, exclude_seen=False)
    assert len(ids(answer)) == 60
    answer = got(client, "/recommend", user="u00003", k=60)
    assert len(ids(answer)) == 55 and not set(ids(answer)) & set(shelf.history("u00003"))
    refused(client.get("/recommend", params={"user": "u00003", "modality": "smell"}), 422, "smell")


def test_wishes_reach_the_shelf(client: Any, shelf: Shelf) -> None:
    weights = {"image": 2.0, "fused": 0.5}
    answer = posted(client, "/recommend", user="u00004", k=8, weights=weights, diversity=0.4)
    assert ids(answer) == shelf.recommend(["u00004"], 8, weights=weights, diversity=0.4)["item"].to_list()
    where = {"category": ["hats", "bags"], "price": {"most": 50}}
    answer = posted(client, "/recommend", user="u00004", k=8, where=where, deny=["i00003", "unknown"])
    only = Filter(None, ["i00003"], {"category": ["hats", "bags"], "price": Range(None, 50)})
    assert ids(answer) == shelf.recommend(["u00004"], 8, only=only)["item"].to_list() != []
    assert ids(posted(client, "/recommend", user="u00004", allow=["i00011"])) in (["i00011"], [])
    assert ids(posted(client, "/recommend", user="nobody", allow=["i00011"])) == ["i00011"]
    for wrong, words in (({"weights": {"smell": 1}}, "smell"), ({"where": {"colour": "red"}}, "colour"),
                         ({"k": 101}, "100"), ({"where": {"title": {"least": 3}}}, "numbers"),
                         ({"weights": {"image": math.inf}}, "finite"), ({"user": None}, "either"),
                         ({"items": ["i00001"]}, "either"), ({"kk": 1}, "kk")):  # fmt: skip
        import json

        body = json.dumps({"user": "u00004", **wrong})
        answer = client.post("/recommend", content=body, headers={"content-type": "application/json"})
        refused(answer, 422, words)


def test_a_session_is_answered_by_its_known_items(client: Any, shelf: Shelf) -> None:
    answer = posted(client, "/recommend", items=["i00001", "gone", "i00009", "i00001"], k=5)
    assert answer["basis"] == "session" and answer["user"] is None
    assert ids(answer) == shelf.session(["i00001", "i00009"], 5).table()["item"].to_list()
    assert posted(client, "/recommend", items=["gone"], k=5)["basis"] == "popular"


def test_reasons_say_what_explain_says(client: Any) -> None:
    answer = posted(client, "/recommend", user="u00005", k=10, reasons=True)
    for card in answer["items"]:
        why = got(client, "/explain", user="u00005", item=card["item"], k=10)
        assert why["evidence"] == card["evidence"] and why["item"]["item"] == card["item"]
        assert why["shares"] == pytest.approx(card["shares"], abs=1e-5)
        for side, said in card["said"].items():
            assert said["rank"] == why["said"][side]["rank"]
            assert said["deviations"] == pytest.approx(why["said"][side]["deviations"], abs=1e-4)
        history = {one["item"] for one in got(client, "/users/u00005")["items"]}
        assert set(why["near"]) >= {"image", "text"}
        assert all(near["item"] in history for nears in why["near"].values() for near in nears)


def test_a_batch_is_the_lists_one_by_one(client: Any) -> None:
    users = ["u00001", "nobody", "u00002", "u00001"]
    answer = posted(client, "/recommend/batch", users=users, k=6)
    assert [one["basis"] for one in answer["lists"]] == ["user", "popular", "user", "user"]
    for user, one in zip(users, answer["lists"], strict=True):
        alone = got(client, "/recommend", user=user, k=6)
        assert ids(one) == ids(alone) and one["user"] == user
    refused(client.post("/recommend/batch", json={"users": ["u"] * 1001}), 422, "1,000")
    refused(client.post("/recommend/batch", json={"users": []}), 422, "users")


def test_similar_items_by_everything_by_looks_and_by_words(client: Any, shelf: Shelf) -> None:
    for by in (None, "image", "text"):
        answer = got(client, "/similar", item="i00002", k=5, **({"by": by} if by else {}))
        assert ids(answer) == shelf.similar(["i00002"], 5, modality=by).table()["similar"].to_list()
    assert len(ids(got(client, "/similar", item="i00002", k=100))) == 59
    refused(client.get("/similar", params={"item": "none"}), 404, "none")


def test_items_and_users_are_found(client: Any, shelf: Shelf) -> None:
    found = got(client, "/items/i00003")
    assert found["title"] == shelf.item("i00003")["title"] and set(found["fields"]) == {"category", "price"}
    assert found["popularity"] == int(shelf.popularity[3]) and found["picture"] is False
    assert {"i00003"} <= set(ids(got(client, "/items", q="00003")))
    assert all("hats" in card["title"].lower() for card in got(client, "/items", q="HATS")["items"])
    assert len(ids(got(client, "/items", limit=7))) == 7
    assert got(client, "/users", q="0003", limit=3)["users"] == ["u00003", "u00030", "u00031"]
    assert ids(got(client, "/users/u00003")) == shelf.history("u00003")
    for path in ("/items/none", "/users/none", "/explain?user=u00001&item=none", "/explain?user=none&item=i00001", "/none",
                 "/recommend?user=u00001&export=none", "/static/none"):  # fmt: skip
        refused(client.get(path), 404, "")
    refused(client.put("/items/i00003"), 405, "")


def test_pictures_are_those_of_the_declared_folder_and_no_others(client: Any) -> None:
    first = client.get("/pictures/i00000")
    assert first.content == b"\x89PNG picture 0" and first.headers["content-type"] == "image/png"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert client.get("/pictures/i00001").headers["content-type"] == "image/jpeg"
    assert got(client, "/items/i00000")["picture"] is True
    for path in (
        "i00002",
        "notes",
        "..%2Fsecret",
        "../secret.png",
        "i00000.png",
        "%2Fetc%2Fpasswd",
        "....//secret",
        "i00005",
    ):
        answer = client.get(f"/pictures/{path}")
        assert answer.status_code == 404 and b"HIDDEN" not in answer.content


def test_pictures_are_found_by_the_column_where_there_is_one(start: Any, tmp_path: Path) -> None:
    (tmp_path / "files" / "a").mkdir(parents=True)
    for name in ("i00001.jpg", "a/x.png", "outside.jpg"):
        (tmp_path / "files" / name).write_bytes(name.encode())
    (tmp_path / "secret.jpg").write_bytes(b"HIDDEN")
    shelf = planted(pictures=tmp_path / "files")
    names = ["a/x.png", None, "../secret.jpg", str(tmp_path / "secret.jpg"), "none.jpg", *[None] * 55]
    table = shelf.item_table.with_columns(pl.Series("picture", names, pl.String))
    replace(shelf, item_table=table).save(tmp_path / "model")
    client = start({"shop": tmp_path / "model"})
    assert client.get("/pictures/i00000").content == b"a/x.png"
    assert {client.get(f"/pictures/i0000{n}").status_code for n in (1, 2, 3, 4)} == {404}
    assert got(client, "/exports")["exports"][0]["pictures"] == 1


def test_numbers_are_ids_too(start: Any, tmp_path: Path) -> None:
    planted(number_ids=True).save(tmp_path / "numbers")
    client = start({"numbers": tmp_path / "numbers"})
    answer = got(client, "/recommend", user="107", k=3)
    assert answer["basis"] == "user" and all(card["item"].isdigit() for card in answer["items"])
    assert got(client, "/recommend", user="0107")["basis"] == "popular"
    assert got(client, "/items/103")["item"] == "103"
    assert ids(posted(client, "/recommend", user="107", k=3, allow=[answer["items"][1]["item"]])) == ids(answer)[1:2]


def test_two_exports_are_asked_by_name(start: Any, model: Path, tmp_path: Path) -> None:
    planted(seed=1).save(tmp_path / "other")
    client = start({"old": model, "new": tmp_path / "other"})
    assert [one["name"] for one in got(client, "/exports")["exports"]] == ["old", "new"]
    old, new = (got(client, "/recommend", user="u00001", export=name) for name in ("old", "new"))
    assert old == got(client, "/recommend", user="u00001") and ids(old) != ids(new) and new["export"] == "new"


def test_what_is_served_is_described(client: Any) -> None:
    (about,) = got(client, "/exports")["exports"]
    assert about["name"] == "shop" and (about["users"], about["items"], about["pictures"]) == (40, 60, 2)
    assert about["modalities"] == ["image", "text"] and about["colour_by"] == "category"
    assert about["columns"]["category"] == sorted(about["columns"]["category"])


def test_the_description_of_the_api_has_examples_and_limits(client: Any) -> None:
    described = got(client, "/openapi.json")
    assert {"/recommend", "/recommend/batch", "/similar", "/items/{item}", "/explain", "/health", "/ready", "/metrics",
            "/users/{user}"} <= set(described["paths"])  # fmt: skip
    (k,) = (p for p in described["paths"]["/recommend"]["get"]["parameters"] if p["name"] == "k")
    assert k["schema"]["maximum"] == 100 and described["components"]["schemas"]["AskList"]["examples"]
    assert "/" not in described["paths"]
