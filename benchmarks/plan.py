"""What a billion users would take, by arithmetic on what was measured here: the table of docs/plan.md.

    python -m benchmarks.plan [--write]

Seconds are those of the machine of ``results/scale.md``: four cores that other programs used too. What is assumed and not
measured is in capitals below, and said on the page.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from benchmarks.setting import RESULTS, ROOT
from prismrec.io import write_text

USERS, ITEMS, HISTORY = 10**9, 10**8, 20  # rows kept of a user
NEW_ROWS, NEW_ITEMS, ACTIVE = 10**9, 10**6, 10**8  # a day's; users who come on a day
PEAK, PRICE = 5, 0.20  # the busiest moment over the mean; of an hour of a machine with four cores and 24 GB
MACHINES, NETWORK, USABLE = 80, 1.25e9, 20e9  # that train; bytes a second between them; bytes of memory each
DIM, FEATURE, BATCH, HELD = 64, 512, 2**20, 5  # held: weights, gradient, two moments, the best epoch's weights
LINK = 2 * 32 * 4  # bytes of an item's links in HNSW
BANDWIDTH = 46e9  # bytes a second from memory: results/speed-2026-11-22.md
PICTURES = 6.0  # CLIP's ViT-B/32, a second on a core: results/encoding-2026-11-22.md
LIST = 1.68e-3  # core seconds for 20 of a million items by HNSW: results/serving-index-2026-11-22.md
EXACT = 62_786 / 2 * 7_000  # items that a core scores a second, exactly: the same
PAGE = ROOT / "docs" / "plan.md"
MARKS = "<!-- reckoned -->", "<!-- end -->"

Line = tuple[str, str, str]
"""What; what it takes; how that was reckoned."""


def record(name: str) -> dict[str, Any]:
    """A record of ``benchmarks.scale``."""
    found: dict[str, Any] = json.loads((RESULTS / "scale" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def seconds(name: str) -> float:
    """All stages of a record."""
    return sum(float(lap["seconds"]) for lap in record(name)["laps"].values())


def times(per: float, count: float) -> float:
    """``per`` a machine's seconds, as hours of machines."""
    return per * count / 3600


def lines() -> list[Line]:
    """The plan's table."""
    kept, size = record("1e8-prepare"), 10**8
    prepare, row = seconds("1e8-prepare") / size, kept["peak_mb"] * 2**20 / size
    history = USERS * HISTORY
    graph = times(seconds("1e8-graph"), (ITEMS / 10**6) ** 1.5)
    nodes = USERS + ITEMS
    tables, of_items = nodes * DIM * 4, ITEMS * DIM * 4
    steps = NEW_ROWS / BATCH
    work = record("1e6-train-vbpr-64")["seconds_million"] * BATCH / 10**6
    moved = 2 * BATCH * 3 * DIM * 4 / NETWORK
    passed = nodes / MACHINES * DIM * 28 / BANDWIDTH
    trained = steps * (work + moved + passed) / 3600
    layer = tables / NETWORK
    index = ITEMS * (DIM * 4 + LINK)
    shards = math.ceil(index / USABLE)
    asked = ACTIVE / 86_400 * PEAK
    servers = max(shards, math.ceil(asked * LIST * shards / 4))
    daily = {
        "preparation": times(prepare, NEW_ROWS),
        "pictures": NEW_ITEMS / PICTURES / 3600 / 4,
        "training": trained * MACHINES,
        "service": servers * 24.0,
    }
    return [
        ("prepare a day's rows", f"{times(prepare, NEW_ROWS):.1f} h", f"{prepare * 10**6:.2f} s a million"),
        ("prepare all rows", f"{times(prepare, history):.1f} h", f"{history / 10**9:.0f} thousand million"),
        (
            "… at once",
            f"{math.ceil(history * row / USABLE)} machines' memory",
            f"{row:.0f} bytes a row; {USABLE / row / 10**6:.0f} million rows in 20 GB",
        ),
        (
            "encode the pictures of all items, once",
            f"{ITEMS / PICTURES / 3600 / 4:,.0f} h",
            f"{PICTURES:g} a second and core, without a GPU",
        ),
        ("encode a day's new pictures", f"{daily['pictures']:.0f} h", ""),
        ("features in their file", f"{ITEMS * FEATURE * 2 / 10**9:.0f} GB", f"{FEATURE} numbers of 16 bits"),
        ("find the neighbours of all items", f"{graph:.0f} h", "a million items' time × 100^1.5"),
        ("tables", f"{tables / 10**9:.0f} GB", f"d = {DIM}, 32 bits"),
        (
            "… with gradient, moments and best weights",
            f"{HELD * tables / 10**12:.1f} TB, {math.ceil(HELD * tables / USABLE)} machines",
            "20 GB each",
        ),
        (
            "… of items alone",
            f"{HELD * of_items / 10**9:.0f} GB, {math.ceil(HELD * of_items / USABLE)} machines",
            "if users are folded in",
        ),
        (
            "a day's rows through VBPR, tables spread",
            f"{trained:.1f} h of {MACHINES} machines",
            f"{steps:.0f} steps: batch {work:.1f} s, network {moved:.1f} s, optimizer {passed:.1f} s",
        ),
        (
            "one layer of a graph model",
            f"{layer:.0f} s a step",
            f"{tables / 10**9:.0f} GB to every machine; three layers and back: {steps * 6 * layer / 3600:.0f} h a day",
        ),
        (
            "exact lists for all users",
            f"{USERS * ITEMS / EXACT / 86_400 / 365:.0f} years of a core",
            f"{EXACT / 10**6:.0f} million items scored a second and core",
        ),
        (
            "an HNSW index of all items",
            f"{index / 10**9:.0f} GB, {shards} machines",
            f"{DIM * 4} + {LINK} bytes an item",
        ),
        (
            "requests at the busiest moment",
            f"{asked:,.0f} a second, {servers} machines",
            f"{LIST * 1000:.2f} ms of a core in each of {shards} parts",
        ),
        (
            "a day",
            f"{sum(daily.values()):.0f} h of a machine, {PRICE * sum(daily.values()):.0f} of your currency",
            ", ".join(f"{what} {much:.0f}" for what, much in daily.items()),
        ),
    ]


def text() -> str:
    """The table as Markdown."""
    rows = [f"| {' | '.join(line)} |" for line in [("what", "takes", "reckoned from"), ("---",) * 3, *lines()]]
    return "\n".join(rows)


def main() -> None:
    print(text())
    if "--write" in sys.argv:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
        write_text(PAGE, f"{before}{MARKS[0]}\n\n{text()}\n\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
