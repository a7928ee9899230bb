"""Figures are whole SVG, follow the page's colours, and keep labels apart."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prismrec.figures import _labels, bars, curves, densities, grouped, scatter, standalone

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
    places = _labels(points, [4] * len(points), (0.018, 0.05))
    for k, (x, y) in enumerate(places):
        assert not any(abs(x - a) < (w / 2 - 1e-9) and abs(y - b) < (h / 2 - 1e-9) for a, b in points)
        others = places[:k]
        assert not any(abs(x - a) < w - 1e-9 and abs(y - b) < h - 1e-9 for a, b in others)


def test_a_lone_label_stands_beside_its_point() -> None:
    ((x, y),) = _labels([(0.4, 0.5)], [6], (0.02, 0.05))
    assert y == 0.5
    assert 0.4 < x < 0.5


def test_a_figure_of_its_own_carries_its_colours_and_size() -> None:
    text = standalone(FIGURES["bars"]())
    root = ET.fromstring(text)
    assert float(root.get("width", 0)) / float(root.get("height", 1)) == pytest.approx(338.4 / 95.76, rel=0.02)
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", text)) <= set(re.findall(r"(--[a-z0-9]+):", text))
    assert "prefers-color-scheme: dark" in text
