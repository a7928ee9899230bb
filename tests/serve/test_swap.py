"""One export takes another's place: at once or not at all, and no request notices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from shelves import planted

from prismrec.errors import PrismError
from prismrec.serve.catalogue import Catalogue, version_of


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An export that may be changed."""
    planted().save(tmp_path / "own")
    return tmp_path / "own"


def refresh(client: Any) -> None:
    client.portal.call(client.desk.exports.refresh)


def served(client: Any) -> tuple[str, list[str]]:
    answer = client.get("/recommend?user=u00001&k=5").json()
    return answer["version"], [card["item"] for card in answer["items"]]


def test_a_new_export_is_taken_up(start: Any, own: Path) -> None:
    client = start({"shop": own}, watch=60)
    before = served(client)
    refresh(client)
    assert served(client) == before
    planted(seed=7).save(own)
    refresh(client)
    after = served(client)
    assert after[0] == version_of(own) != before[0] and after[1] != before[1]
    assert client.get("/ready").json()["exports"] == {"shop": after[0]}


def test_it_is_taken_up_by_itself(start: Any, own: Path) -> None:
    client = start({"shop": own}, watch=0.01)
    before = served(client)
    planted(seed=7).save(own)
    for _ in range(300):
        if served(client)[0] != before[0]:
            break
    else:
        pytest.fail("the new export was not taken up")


def spoilt(folder: Path, how: str) -> None:
    planted(seed=7).save(folder)
    (tensors,) = folder.glob("tensors.*")
    content = bytearray(tensors.read_bytes())
    if how == "cut short":
        tensors.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[-9] ^= 0x40
        tensors.write_bytes(content)
    elif how == "lost":
        tensors.unlink()
    else:
        (folder / "manifest.json").write_text(how)


@pytest.mark.parametrize("how", ["cut short", "flipped", "lost", "{", "{}", "[1]"])
def test_a_bad_export_keeps_the_old_one_serving(how: str, start: Any, own: Path) -> None:
    client = start({"shop": own}, watch=60)
    before = served(client)
    spoilt(own, how)
    refresh(client)
    assert served(client) == before
    ready = client.get("/ready").json()
    assert ready["ready"] and ready["exports"] == {"shop": before[0]} and ready["refused"]["shop"]
    assert 'prismrec_swaps_total{export="shop",outcome="refused"} 1.0' in client.get("/metrics").text
    (own / "manifest.json").unlink()
    refresh(client)  # nothing there at all
    assert served(client) == before
    planted(seed=8).save(own.parent / "good")
    for path in own.iterdir():
        path.unlink()
    own.rmdir()
    (own.parent / "good").rename(own)
    refresh(client)
    assert served(client)[0] not in (before[0], "") and client.get("/ready").json()["refused"] == {}


def test_a_link_that_is_turned_is_followed(start: Any, own: Path, tmp_path: Path) -> None:
    planted(seed=7).save(tmp_path / "next")
    link, turned = tmp_path / "current", tmp_path / "turned"
    link.symlink_to(own)
    client = start({"shop": link}, watch=60)
    before = served(client)
    turned.symlink_to(tmp_path / "next")
    os.replace(turned, link)  # noqa: PTH105 - what a deployment does
    refresh(client)
    assert served(client) != before and served(client)[0] == version_of(tmp_path / "next")


def test_asked_to_look_it_looks_though_nothing_seems_to_have_changed(start: Any, own: Path) -> None:
    client = start({"shop": own}, watch=60)
    before = served(client)
    stamp = (own / "manifest.json").stat()
    client.desk.exports.ask()
    refresh(client)
    assert served(client) == before  # the same version is not loaded into another's place
    assert stamp.st_ino == (own / "manifest.json").stat().st_ino


def test_a_request_that_has_begun_ends_with_the_export_it_began_with(start: Any, own: Path) -> None:
    client = start({"shop": own}, watch=60)
    held = client.desk.export(None)
    planted(seed=7).save(own)
    refresh(client)
    (cards,) = client.portal.call(client.desk.slowly, _list, held)
    assert len(cards) == 3 and client.desk.export(None) is not held


def _list(held: Catalogue) -> Any:
    from prismrec.serve import answers, forms

    return answers.users(held, [1], 3, forms.Wishes())


def test_the_first_export_must_be_good(start: Any, own: Path) -> None:
    spoilt(own, "cut short")
    with pytest.raises(PrismError, match="bytes where the manifest says"):
        start({"shop": own})
    with pytest.raises(PrismError, match="holds no export"):
        start({"shop": own / "none"})


# those who were forgotten


def test_a_forgotten_user_stays_forgotten_whatever_is_served(start: Any, own: Path) -> None:
    client = start({"shop": own}, watch=60)
    before = client.get("/recommend?user=u00001&k=5").json()
    assert before["basis"] == "user" and client.get("/users/u00001").status_code == 200
    assert client.delete("/users/u00001").json() == {"user": "u00001", "forgotten": True}
    for _ in range(2):
        after = client.get("/recommend?user=u00001&k=5").json()
        assert after["basis"] == "popular"
        assert client.post("/recommend", json={"user": "u00001", "k": 5}).json()["basis"] == "popular"
        lists = client.post("/recommend/batch", json={"users": ["u00001", "u00002"], "k": 5}).json()["lists"]
        assert [one["basis"] for one in lists] == ["popular", "user"]
        assert (
            client.get("/users/u00001").status_code == client.get("/explain?user=u00001&item=i00001").status_code == 404
        )
        assert "u00001" not in client.get("/users?q=u0000&limit=5").json()["users"]
        assert len(client.get("/users?q=u0000&limit=5").json()["users"]) == 5
        planted(seed=7).save(own)
        refresh(client)
    assert client.delete("/users/u00001").status_code == 200
    assert client.delete("/users/nobody").status_code == 404
    other = start({"shop": own}, watch=60)  # another process with the same file
    assert other.get("/recommend?user=u00001").json()["basis"] == "popular"
