"""Pages as a browser shows them: nothing is fetched, nothing overflows, and axe finds no fault, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from encoding import shop
from program import call

KINDS = ("run", "floor", "leaderboard", "diagnosis", "study", "search", "reproduction")
SIZES = {1280: 900, 390: 844}
AXED = {(1280, "light"), (390, "dark")}  # it takes seconds; colours do not hang on the width, nor labels on the colours

OUTSIDE = """() => {
  const faults = [];
  for (const svg of document.querySelectorAll("figure svg")) {
    const name = svg.getAttribute("aria-label"), box = svg.getBoundingClientRect();
    if (box.width < 150 || box.height < 40) faults.push(`too small: ${name}`);
    if (box.left < 0 || box.right > innerWidth + 1) faults.push(`beside the page: ${name}`);
    for (const text of svg.querySelectorAll("text")) {
      const t = text.getBoundingClientRect();
      if (t.left < box.left - 2 || t.right > box.right + 2 || t.top < box.top - 2 || t.bottom > box.bottom + 2)
        faults.push(`cut off: ${text.textContent} in ${name}`);
    }
  }
  return faults;
}"""


@contextmanager
def opened(browser: Any, path: Path, width: int = 1280, scheme: str = "light", **more: Any) -> Iterator[Any]:
    """The page in a window of its own; whatever it complains of or asks for is a failure."""
    context = browser.new_context(viewport={"width": width, "height": SIZES[width]}, color_scheme=scheme, **more)
    page, heard, asked = context.new_page(), [], []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert heard == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


WAYS = [(width, scheme) for width in SIZES for scheme in ("light", "dark")]
LOOKED_AT = [way if way in AXED else pytest.param(*way, marks=pytest.mark.slow) for way in WAYS]


@pytest.mark.parametrize(("width", "scheme"), LOOKED_AT)
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_and_axe_finds_no_fault(
    kind: str, width: int, scheme: str, pages: dict[str, Path], browser: Any
) -> None:
    with opened(browser, pages[kind], width, scheme, bypass_csp=True) as page:  # else axe itself could not be loaded
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("figure svg").count() >= 2
        assert page.evaluate(OUTSIDE) == []
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if (width, scheme) in AXED:
            assert faults(page) == []


@pytest.mark.parametrize(("width", "scheme"), sorted(AXED))
def test_a_data_card_is_whole_and_shows_its_pictures(width: int, scheme: str, tmp_path: Path, browser: Any) -> None:
    here = shop(tmp_path)
    asked = ["-m", "image", "--images", here / "pictures", "--transform", "pca:4", "-o", here / "out"]
    assert call("data", "encode", here / "data", *asked).status == 0
    with opened(browser, here / "out" / "cards" / "image" / "index.html", width, scheme, bypass_csp=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown = "all => all.filter((one) => one.naturalWidth > 0 && one.getBoundingClientRect().height > 20).length"
        assert page.locator(".alike img").evaluate_all(shown) == page.locator(".alike li").count() > 20
        assert faults(page) == []


def faults(page: Any) -> list[str]:
    """What axe-core finds wrong with a page. Drawings are left out, whose every stroke it would look at: they have a label."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing: pip install -e .[test]")
    assert all(page.locator("figure svg").evaluate_all("all => all.map((s) => s.getAttribute('aria-label'))"))
    found = axe.Axe().run(page, context={"exclude": [["figure svg"], ["td.forest svg"]]})
    nodes = [(fault["id"], node) for fault in found.response["violations"] for node in fault["nodes"]]
    return [f"{name}: {node['html'][:160]} {node['failureSummary']}" for name, node in nodes]


def test_axe_would_find_what_cannot_be_read(pages: dict[str, Path], browser: Any) -> None:
    with opened(browser, pages["floor"], bypass_csp=True) as page:
        page.add_style_tag(content=".note { color: #aab !important; }")
        page.evaluate("document.querySelector('main').append(document.createElement('input'))")
        assert {"color-contrast", "label"} <= {fault.partition(":")[0] for fault in faults(page)}


def test_only_its_own_script_runs(pages: dict[str, Path], browser: Any, tmp_path: Path) -> None:
    """A script or a handler that got into a page does nothing: the page's policy knows one script, by its hash."""
    text = pages["floor"].read_text(encoding="utf-8")
    foreign = "<script>window.stolen = 1</script><b id='x' onclick='window.stolen = 1'>x</b></main>"
    changed = tmp_path / "changed.html"
    changed.write_text(text.replace("</main>", foreign), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto(changed.as_uri())
    page.click("#x")
    assert page.evaluate("window.stolen") is None
    assert page.locator(".theme").count() == 1
    context.close()


def column(page: Any, number: int) -> list[str]:
    rows = page.locator("table.lively tbody tr:visible")
    return [rows.nth(r).locator("th,td").nth(number).inner_text().split("\n")[0] for r in range(rows.count())]


def test_the_leaderboard_sorts_by_its_heads_and_keeps_the_oracle_last(pages: dict[str, Path], browser: Any) -> None:
    with opened(browser, pages["leaderboard"]) as page:
        before = column(page, 0)
        assert before[-1] == "oracle" and len(before) == 6
        recall = [float(text.split()[0]) for text in column(page, 2)[:-1]]
        assert recall == sorted(recall, reverse=True)
        head = page.locator("table.lively thead th").nth(2)
        assert head.get_attribute("aria-sort") == "descending"
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert column(page, 0) == [*before[:-1][::-1], "oracle"]
        name = page.locator("table.lively thead th").nth(0)
        name.locator("button").click()
        assert (name.get_attribute("aria-sort"), head.get_attribute("aria-sort")) == ("ascending", None)
        assert column(page, 0) == [*sorted(before[:-1]), "oracle"]
        page.locator("table.lively thead th").nth(9).locator("button").click()  # time in all: cheapest first
        assert {"mostpop", "itemknn"} == set(column(page, 0)[:2])


def test_sheets_of_a_study_sort_by_the_number_that_they_show(pages: dict[str, Path], browser: Any) -> None:
    with opened(browser, pages["study"]) as page:
        table = page.locator("section[aria-labelledby=gains] table.lively").first
        head = table.locator("thead th", has_text="difference")
        head.locator("button").click()
        cells = table.locator("tbody tr").evaluate_all("rows => rows.map((r) => r.cells[2].textContent)")
        shown = [float(text.split()[0].replace("−", "-")) for text in cells]
        assert len(shown) > 2 and shown == sorted(shown, reverse=True) and shown[-1] < 0
        costs = page.locator("section[aria-labelledby=costs] table.lively")
        costs.locator("thead th", has_text="s/epoch").locator("button").click()
        cells = costs.locator("tbody tr").evaluate_all("rows => rows.map((r) => r.cells[1].textContent)")
        assert cells[-1] == cells[-2] == "–"  # what has no value comes last


def test_the_leaderboard_is_filtered_by_words(pages: dict[str, Path], browser: Any) -> None:
    with opened(browser, pages["leaderboard"]) as page:
        box = page.get_by_role("searchbox", name="Filter")
        box.fill("vbpr")
        assert set(column(page, 0)) == {"vbpr", "vbpr + clear", "oracle"}
        assert page.get_by_role("status").inner_text() == "2 of 5 rows"
        box.fill("clear VBPR")
        assert set(column(page, 0)) == {"vbpr + clear", "oracle"}
        box.fill("")
        assert len(column(page, 0)) == 6 and page.get_by_role("status").inner_text() == ""


def test_pages_are_read_without_scripts(pages: dict[str, Path], browser: Any) -> None:
    with opened(browser, pages["leaderboard"], java_script_enabled=False) as page:
        assert page.locator("table.lively tbody tr").count() == 6
        assert page.locator("button, input").count() == 0
        assert page.locator("figure svg").first.is_visible()


def ground(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_switch_of_colours_holds_until_it_is_taken_back(pages: dict[str, Path], browser: Any) -> None:
    with opened(browser, pages["run"]) as page:
        day = ground(page)
        page.get_by_role("button", name="Dark").click()
        night = ground(page)
        assert night != day
        assert page.evaluate("localStorage.getItem('prismrec-theme')") == "dark"
        page.get_by_role("button", name="Light").click()
        assert ground(page) == day
        assert page.evaluate("localStorage.getItem('prismrec-theme')") is None
        page.emulate_media(color_scheme="dark")
        assert ground(page) == night
        page.get_by_role("button", name="Light").click()
        assert ground(page) == day


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_runs_over_the_edge_of_paper(kind: str, pages: dict[str, Path], browser: Any) -> None:
    with opened(browser, pages[kind], 1280) as page:
        page.set_viewport_size({"width": 718, "height": 1000})  # A4 within margins of 1 cm
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 718


def test_paper_is_white_and_holds_what_was_folded(pages: dict[str, Path], browser: Any) -> None:
    with opened(browser, pages["run"], scheme="dark") as page:
        folded = page.locator("details:not([open])").count()
        page.emulate_media(media="print", color_scheme="dark")
        assert (
            page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert not page.locator(".theme").is_visible()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert folded > 0 and page.locator("details:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details:not([open])").count() == folded
