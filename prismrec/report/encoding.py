"""The page of a data card, and beside it the card as JSON and the sheet of neighbours as a picture."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from prismrec.encode import pictures
from prismrec.encode.card import FOLDER, Card, Shown
from prismrec.encode.sheet import sheet, thumbnail
from prismrec.io import write_bytes, write_json
from prismrec.report.page import write_page

_TEXT = 160  # characters of a text that the page shows
_SIDE = 132


def write_card(data: str | Path, card: Card, command: str) -> Path:
    """Write ``cards/<modality>/index.html``, ``card.json`` and ``neighbours.png`` into a data folder; the path of the page.

    ``command``: what made the features.
    """
    folder = Path(data) / FOLDER / card.modality
    write_json(folder / "card.json", card.record())
    write_bytes(folder / "neighbours.png", sheet(card))
    with pictures.guarded():
        near = [{"query": _cell(card, q), "near": [_cell(card, one) for one in ones]} for q, ones in card.neighbours]
    return write_page(
        folder / "index.html",
        "encoding.html",
        title=f"{card.modality} of {card.data}",
        modality=card.modality,
        data=card.data,
        says=card.sentences(),
        facts=_facts(card),
        tiles=_tiles(card),
        without=_listed(card.reasons),
        handled=_listed(card.notes),
        repeated=[{"count": f"{count:,}", "ids": ", ".join(ids)} for count, ids in card.repeated],
        near=near,
        command=command,
        key=card.key,
    )


def _facts(card: Card) -> list[tuple[str, str]]:
    facts = [("encoder", card.encoder), ("width", str(card.width)), ("type", card.dtype), ("transform", card.transform)]
    if card.columns:
        facts.append(("from", ", ".join(card.columns)))
    if card.fitted_to:
        facts.append(("fitted to", f"{card.fitted_to:,} items"))
    if card.variance_kept is not None:
        facts.append(("variance kept", f"{card.variance_kept:.1%}"))
    return facts


def _tiles(card: Card) -> list[dict[str, str]]:
    tiles = [
        {
            "name": f"Items with {card.modality}",
            "value": f"{card.present / max(card.items, 1):.1%}",
            "note": f"{card.present:,} of {card.items:,}",
        }
    ]
    if card.interactions_covered is not None:
        note = "of the training rows are with them"
        tiles.append({"name": "Interactions", "value": f"{card.interactions_covered:.1%}", "note": note})
    if card.shared is not None:
        column, near, chance = card.shared
        note = f"share a word of {column} with their nearest; at random {chance:.0%}"
        tiles.append({"name": "Neighbours", "value": f"{near:.0%}", "note": note})
    rate = card.encoded / max(card.seconds, 1e-9)
    note = f"{rate:,.0f} a second" if card.encoded else "all of them were known"
    if card.encoded and card.known:
        note += f"; {card.known:,} were known"
    tiles.append({"name": "Encoded", "value": f"{card.encoded:,}", "note": note})
    return tiles


def _listed(found: Any) -> list[dict[str, str]]:
    return [{"name": name, "count": f"{count:,}", "ids": ", ".join(ids)} for name, (count, ids) in found.items()]


def _cell(card: Card, shown: Shown) -> dict[str, str]:
    content = card.contents[shown.item]
    cell = {"title": shown.title, "id": shown.id, "cosine": f"{shown.cosine:.2f}", "picture": "", "text": ""}
    if isinstance(content, bytes):
        text = content.decode(errors="replace")
        # what stands in the title already need not be read twice
        text = text.removeprefix(shown.title).strip() or text
        return cell | {"text": text if len(text) <= _TEXT else f"{text[:_TEXT].rstrip()} …"}
    image = thumbnail(content, _SIDE)
    if image is None:
        return cell
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return cell | {"picture": "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()}
