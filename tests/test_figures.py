"""Figures are whole SVG, follow the page's colours, and keep labels apart."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prismrec.figures import (
    bars,
    cloud,
    curves,
    densities,
    differences,
    embedded,
    grouped,
    heatmap,
    scatter,
    standalone,
)
from prismrec.figures.canvas import DAY, NIGHT
from prismrec.figures.heat import DEEPEST, shade
from prismrec.figures.points import labels

FIGURES = {
    "curves": lambda: curves({"a": ([1, 2, 3], [0.1, 0.2, 0.15]), "b": ([1, 2], [0.3, 0.1])}, "recall@20", {"a": 2}),
    "logarithmic": lambda: curves({"rank": ([1, 2, 3], [0.9, 0.1, 0.001])}, "loss"),
    "negative": lambda: curves({"mine": ([1, 2], [-3.0, -90.0])}, "loss"),
    "one epoch": lambda: curves({"a": ([1], [0.1])}, "recall@20", {"a": 1}),
    "named ticks": lambda: curves({"a": ([0, 1], [0.1, 0.2])}, "recall@20", ticks=["3–8", "9–60"]),
    "multiples": lambda: curves({"a": ([1, 10, 100], [0.1, 0.2, 0.3])}, "share", x="K", multiples=True),
    "densities": lambda: densities({"a": [0.1, 0.2, 0.3], "b": [0.2, 0.2, 0.5]}, "cosine"),
    "one value": lambda: densities({"a": [0.5, 0.5]}, "cosine"),
    "bars": lambda: bars(["x", "y"], [0.3, 0.2], [0.28, 0.2], [0.33, 0.2], "recall@20", ("oracle", 0.7)),
    "all zero": lambda: bars(["x"], [0.0], [0.0], [0.0], "recall@20"),
    "grouped": lambda: grouped(["x", "y"], {"a": [0.3, 0.2], "b": [0.1, 0.0]}, "recall@20"),
    "grouped, below zero": lambda: grouped(["x"], {"a": [-0.3], "b": [-1e-4]}, "Fisher ratio"),
    "scatter": lambda: scatter(["x", "y"], [0.1, 20], [0.3, 0.2], "seconds", "recall@20"),
    "front": lambda: scatter(["x", "y", "z"], [0.1, 20, 30], [0.1, 0.3, 0.2], "seconds", "recall@20", front=True),
    "one point, front": lambda: scatter(["x"], [0.1], [0.1], "seconds", "recall@20", front=True),
    "band": lambda: curves({"a": ([1, 2], [0.1, 0.2])}, "recall@20", bands={"a": ([0.0, 0.1], [0.2, 0.3])}),
    "dots": lambda: curves({"best": ([0, 1], [0.1, 0.2])}, "recall@20", dots={"trials": ([0, 1, 2], [0.1, 0.2, 0.1])}),
    "cloud": lambda: cloud([0.001, 0.1, 3.0], [0.1, 0.3, 0.2], "reg", "recall@20"),
    "cloud of words": lambda: cloud(["sum", True, None], [0.1, 0.3, 0.2], "fusion", "recall@20"),
    "differences": lambda: differences(["x", "y"], [0.1, -0.2], [0.05, -0.3], [0.15, 0.1], "difference"),
    "no difference": lambda: differences(["x"], [0.0], [0.0], [0.0], "difference"),
    "heat map": lambda: heatmap([[0.1, 0.2], [0.3, math.nan]], ["1", "2"], ["x", "y"], "recall@20", "k", "λ"),
    "heat map around 0": lambda: heatmap([[-0.1, 0.2]], ["a"], ["x", "y"], "gain", diverging=True, mark="none"),
    "one value everywhere": lambda: heatmap([[0.1, 0.1]], ["a"], ["x", "y"], "recall@20", mark="smallest"),
    "nothing known": lambda: heatmap([[math.nan]], ["a"], ["x"], "recall@20"),
    "wide heat map": lambda: heatmap([[float(c) for c in range(40)]], ["a"], [str(c) for c in range(40)], "recall@20"),
    "one point": lambda: scatter(["x"], [0.1], [0.0], "seconds", "recall@20"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_one_whole_svg_in_the_colours_of_the_page(name: str) -> None:
    text = FIGURES[name]()
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert root.get("viewBox")
    assert root.get("width") is None
    assert not re.search(r"(fill|stroke): ?#", text), "a colour that does not follow light and dark"
    assert "DejaVu" not in text


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_text_every_time(name: str) -> None:
    assert FIGURES[name]() == FIGURES[name]()


def test_figures_of_one_page_share_no_ids() -> None:
    ids = [set(re.findall(r'\bid="([^"]+)"', FIGURES[name]())) for name in ("curves", "bars", "scatter")]
    assert not ids[0] & ids[1]
    assert not ids[1] & ids[2]
    assert not ids[0] & ids[2]


def test_names_are_text_even_if_they_look_like_markup_or_mathematics() -> None:
    text = bars(["<b>$x_1$</b>"], [0.3], [0.2], [0.4], 'recall "@" 20')
    root = ET.fromstring(text)
    assert "<b>$x_1$</b>" in [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_small_values_on_a_wide_range_get_a_logarithmic_axis_with_plain_numbers() -> None:
    ticks = re.findall(r">([\d.]+)</text>", FIGURES["logarithmic"]())
    assert "0.1" in ticks
    assert "0.01" in ticks


@example([(0.0, 0.0625), (0.0, 0.0), (0.25, 0.1875), (0.0, 0.001953125)])
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9, unique=True))
def test_labels_of_a_few_points_hide_neither_points_nor_each_other(points: list[tuple[float, float]]) -> None:
    w, h = 4 * 0.018, 0.05
    places = labels(points, [4] * len(points), (0.018, 0.05))
    for k, (x, y) in enumerate(places):
        assert not any(abs(x - a) < (w / 2 - 1e-9) and abs(y - b) < (h / 2 - 1e-9) for a, b in points)
        others = places[:k]
        assert not any(abs(x - a) < w - 1e-9 and abs(y - b) < h - 1e-9 for a, b in others)


def test_a_lone_label_stands_beside_its_point() -> None:
    ((x, y),) = labels([(0.4, 0.5)], [6], (0.02, 0.05))
    assert y == 0.5
    assert 0.4 < x < 0.5


def test_a_figure_of_its_own_carries_its_colours_and_size() -> None:
    text = standalone(FIGURES["bars"]())
    root = ET.fromstring(text)
    assert float(root.get("width", 0)) / float(root.get("height", 1)) == pytest.approx(338.4 / 95.76, rel=0.02)
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", text)) <= set(re.findall(r"(--[a-z0-9]+):", text))
    assert "prefers-color-scheme: dark" in text


def test_an_embedded_figure_is_what_it_was_before_it_became_a_file() -> None:
    svg = FIGURES["bars"]()
    assert embedded(standalone(svg)) == svg


def test_a_heat_map_writes_its_values_and_says_where_the_best_is() -> None:
    root = ET.fromstring(FIGURES["heat map"]())
    texts = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"0.1000", "0.2000", "0.3000", "·", "k", "λ", "recall@20"} <= texts
    assert (root.get("aria-label") or "").endswith("largest 0.3000 at 2, x")
    assert "+40" not in FIGURES["wide heat map"]()


def test_colours_of_a_heat_map_deepen_with_the_value() -> None:
    depth = [shade(value, 0.0, 1.0, False)[1] for value in (0.0, 0.3, 1.0)]
    assert depth == sorted(depth) and depth[0] < 0.1 and depth[2] == pytest.approx(DEEPEST)
    above, below = shade(0.5, -1.0, 1.0, True), shade(-0.5, -1.0, 1.0, True)
    assert above[1] == below[1] and above[0] != below[0]
    assert shade(0.0, -1.0, 1.0, True)[1] < 0.1


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, WCAG 2.2."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def rgb(text: str) -> tuple[float, ...]:
    return tuple(int(text[at : at + 2], 16) / 255 for at in (1, 3, 5))


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("tones", [DAY, NIGHT], ids=["day", "night"])
def test_colours_can_be_told_from_their_ground(tones: dict[str, str]) -> None:
    """4.5 for text and 3 for lines, as WCAG 2.2 has it (1.4.3, 1.4.11)."""
    paper = rgb(tones["paper"])
    for ground in ("paper", "panel", "ground"):
        for ink in ("ink", "muted", "accent"):
            assert contrast(rgb(tones[ink]), rgb(tones[ground])) >= 4.5, (ink, ground)
    assert contrast(rgb(tones["hit"]), rgb(tones["hit-paper"])) >= 4.5
    for k in range(8):
        assert contrast(rgb(tones[f"c{k}"]), paper) >= 3, f"c{k}"
    for k in (0, 1):  # numbers on a heat map's deepest cell
        mixed = tuple(DEEPEST * a + (1 - DEEPEST) * b for a, b in zip(rgb(tones[f"c{k}"]), paper, strict=True))
        assert contrast(rgb(tones["ink"]), mixed) >= 4.5, f"c{k}"


def test_the_front_holds_what_nothing_cheaper_beats() -> None:
    from prismrec.figures.points import _front

    assert _front([10, 1, 5, 5, 20], [0.3, 0.1, 0.05, 0.2, 0.25]) == [1, 3, 0]


def test_of_many_points_the_front_and_the_highest_have_labels() -> None:
    names = [f"arm-{k}" for k in range(40)]
    root = ET.fromstring(
        scatter(
            names, list(range(1, 41)), [0.1 + 0.001 * k for k in range(40)][::-1], "seconds", "recall@20", front=True
        )
    )
    texts = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {text for text in texts if text and text.startswith("arm-")} == set(names[:10])
    assert "arm-39" in (root.get("aria-label") or "")


@pytest.mark.parametrize(("letters", "columns"), [(4, 3), (22, 2), (40, 1)])
def test_a_legend_has_as_many_columns_as_there_is_room_for(letters: int, columns: int) -> None:
    names = [f"{k}".rjust(letters, "x") for k in range(6)]
    svg = curves({name: ([1, 2], [0.1, 0.2]) for name in names}, "recall@20")
    places = re.findall(r'translate\(([\d.]+) [\d.]+\)[^>]*>\s*x+\d|x="([\d.]+)"[^>]*>x+\d', svg)
    assert len({round(float(a or b)) for a, b in places}) == columns
