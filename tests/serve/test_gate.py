"""What no request gets past: hosts, keys, rates, sizes, load and time; and what is told of each."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prismrec.serve.rate import Rate

KEY = "0123456789abcdef"


def metric(client: Any, name: str, **headers: str) -> float:
    lines = client.get("/metrics", headers=headers).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_key_is_asked_for_everywhere_but_at_the_door(start: Any) -> None:
    client = start(api_key=KEY)
    for path in ("/recommend?user=u00001", "/recommend?user=u00001&exclude_seen=true", "/users", "/metrics", "/exports", "/map",
                 "/pictures/i00000", "/none"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 401 and "key" in answer.json()["detail"]
        assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get(path, headers={"x-api-key": KEY[:-1]}).status_code == 401
    for path in ("/health", "/ready", "/", "/static/base.css", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert client.delete("/users/u00001").status_code == 401
    for header in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY}"}):
        assert client.get("/recommend?user=u00001", headers=header).status_code == 200
    assert metric(client, 'prismrec_refused_total{reason="key"}', **{"x-api-key": KEY}) == 17


def test_a_page_elsewhere_cannot_ask_under_a_name_of_its_own(start: Any) -> None:
    client = start(hosts=("shop.example",))
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1", "shop.example"):
        assert client.get("/health", headers={"host": host}).status_code == 200, host
    for host in ("evil.example", "localhost.evil.example", "", "[::1]evil"):
        assert client.get("/health", headers={"host": host}).status_code == 400, host
    assert start(host="0.0.0.0").get("/health", headers={"host": "any.example"}).status_code == 200


def test_bodies_have_a_size_however_they_come(start: Any) -> None:
    client = start(max_body=2000)
    body = json.dumps({"users": ["u00001"] * 500}).encode()
    assert client.post("/recommend/batch", content=body).status_code == 413

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 100):
            yield body[at : at + 100]

    answer = client.post("/recommend/batch", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413 and "2,000" in answer.json()["detail"]
    assert client.post("/recommend/batch", json={"users": ["u00001"]}).status_code == 200
    assert metric(client, 'prismrec_refused_total{reason="size"}') == 2


def test_one_client_has_a_rate_and_the_door_has_none(start: Any) -> None:
    client = start(rate=0.5, burst=3)
    answers = [client.get("/recommend?user=u00001") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert client.get("/ready").status_code == 200


def test_tokens_come_back_and_clients_are_apart() -> None:
    rate = Rate(2.0, 2)
    assert [rate.wait("a", 0.0) for _ in range(3)] == [0, 0, 0.5]
    assert rate.wait("b", 0.0) == 0
    assert rate.wait("a", 0.4) == pytest.approx(0.1)
    assert rate.wait("a", 0.6) == 0
    assert [rate.wait("a", 100.0) for _ in range(3)] == [0, 0, 0.5]
    for n in range(20_000):
        rate.wait(f"c{n}", 100.0)
    assert len(rate._buckets) == 10_000


def test_what_takes_too_long_or_comes_too_thick_is_told_so(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from prismrec.serve import answers

    client = start(timeout=0.05)
    monkeypatch.setattr(answers, "users", lambda *_: time.sleep(0.3))
    answer = client.post("/recommend", json={"user": "u00001"})
    assert answer.status_code == 503 and "0.05 s" in answer.json()["detail"]
    client.desk.settings.max_waiting  # noqa: B018 - a limit of its own, asked for below
    crowded = start(max_waiting=1)
    gate = crowded.app
    gate._waiting += 1
    assert crowded.get("/health").status_code == 200
    answer = crowded.get("/ready")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"


def test_a_fault_is_logged_with_its_number_and_says_nothing_outside(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import opened

    from prismrec.serve import answers

    def broken(*_: Any) -> None:
        raise RuntimeError("inner matters")

    monkeypatch.setattr(answers, "similar", broken)
    out = io.StringIO()
    with opened({"shop": model}, tmp_path, out) as client:
        answer = client.get("/similar?item=i00001")
        assert answer.status_code == 500 and "inner matters" not in answer.text
        client.get("/recommend?user=u00001")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    (fault,) = (line for line in lines if line["event"] == "fault")
    assert "inner matters" in fault["error"] and fault["request"] == answer.headers["x-request-id"]
    first, second = (line for line in lines if line["event"] == "request")
    assert (first["route"], first["status"]) == ("/similar", 500)
    assert (second["route"], second["status"], second["method"]) == ("/recommend", 200, "GET")
    assert second["ms"] > 0 and second["time"].endswith("Z") and "u00001" not in json.dumps(second)


def test_prometheus_is_told_what_was_answered(start: Any) -> None:
    client = start()
    for _ in range(3):
        client.get("/recommend?user=u00001")
    client.get("/recommend?user=nobody")
    client.get("/items/none")
    assert metric(client, 'prismrec_requests_total{method="GET",route="/recommend",status="200"}') == 4
    assert metric(client, 'prismrec_requests_total{method="GET",route="/items/{item}",status="404"}') == 1
    assert metric(client, 'prismrec_lists_total{kind="user"}') == 3
    assert metric(client, 'prismrec_lists_total{kind="popular"}') == 1
    assert metric(client, 'prismrec_request_seconds_count{route="/recommend"}') == 4
    assert metric(client, "prismrec_requests_in_progress") == 1
    assert metric(client, "prismrec_export_loaded_timestamp_seconds") > 1e9
