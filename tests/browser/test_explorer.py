"""The explorer in a browser: walked by pointer and by keyboard; nothing is fetched from elsewhere, axe finds no fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import running
from shelves import planted

SIZES = {1280: 900, 390: 844}
AXED = {(1280, "light"), (390, "dark")}  # it takes seconds; colours do not hang on the width, nor labels on the colours
KEY = "0123456789abcdef"
PAINTED = """() => {
  const map = document.getElementById("map");
  return map.getContext("2d").getImageData(0, 0, map.width, map.height).data.some((value) => value > 0);
}"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two exports of one catalogue; ten of its items have a picture."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed: pip install -e .[encode]")
    folder = tmp_path_factory.mktemp("explorer")
    (folder / "pictures").mkdir()
    for n in range(0, 60, 6):
        image.new("RGB", (40, 60), (40 * n % 256, 90, 200 - 3 * n)).save(folder / "pictures" / f"i{n:05d}.png")
    for name, seed in (("old", 0), ("new", 3)):
        planted(seed=seed, pictures=folder / "pictures").save(folder / name)
    return {name: folder / name for name in ("old", "new")}


@pytest.fixture(scope="module")
def url(exports: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[str]:
    with running(exports, tmp_path_factory.mktemp("state")) as found:
        yield found


@contextmanager
def opened(
    browser: Any, url: str, at: str = "", width: int = 1280, scheme: str = "light", **more: Any
) -> Iterator[Any]:
    """The page in a window of its own; whatever it complains of, and whatever it asks elsewhere, is a failure."""
    context = browser.new_context(viewport={"width": width, "height": SIZES[width]}, color_scheme=scheme, **more)
    context.set_default_timeout(15_000)
    page, heard, asked = context.new_page(), [], []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/{at}")
    page.wait_for_selector(".items li")
    yield page
    context.close()
    assert heard == []
    assert [one for one in asked if not one.startswith((url, "data:", "blob:"))] == []


def listed(page: Any, which: int = 0) -> list[str]:
    names = (
        page.locator(".list")
        .nth(which)
        .locator(".items > li")
        .evaluate_all("all => all.map((one) => one.dataset.item)")
    )
    return list(names)


def settled(page: Any) -> None:
    page.wait_for_timeout(250)  # what is typed or slid is asked a moment later
    page.wait_for_selector("#lists[aria-busy=false]")


SLOW = [pytest.param(*way, marks=pytest.mark.slow) for way in ((1280, "dark"), (390, "light"))]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), *SLOW])
def test_the_page_is_whole_and_axe_finds_no_fault(width: int, scheme: str, url: str, browser: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing: pip install -e .[test]")

    with opened(browser, url, "#user=u00003&beside=new&w.image=1.5", width, scheme, bypass_csp=True) as page:

        def whole() -> None:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if (width, scheme) not in AXED:
                return
            found = axe.Axe().run(page)
            nodes = [
                (fault["id"], node["html"][:160]) for fault in found.response["violations"] for node in fault["nodes"]
            ]
            assert nodes == []

        page.locator("#mix").evaluate("node => { node.open = true; }")
        page.locator(".ask").first.click()
        page.wait_for_selector(".why table")
        page.locator("#map-part").scroll_into_view_if_needed()
        page.wait_for_selector("#legend li")
        whole()
        page.locator(".items .open").first.click()
        page.wait_for_selector("#alikes li")
        whole()


def test_a_user_is_found_by_keyboard_and_kept_in_the_address(url: str, browser: Any) -> None:
    with opened(browser, url) as page:
        assert page.locator("h1").inner_text() == "Recommendations for u00000"
        box = page.get_by_role("combobox", name="User")
        box.focus()
        page.keyboard.type("0003")
        page.wait_for_selector("#users li:nth-child(2)")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.locator("#users [aria-selected=true]").inner_text() == "u00030"
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('h1').textContent.endsWith('u00030')")
        settled(page)
        assert "user=u00030" in page.url and not page.locator("#users").is_visible()
        before = listed(page)
        page.reload()
        page.wait_for_selector(".items li")
        assert listed(page) == before and page.locator("#history li").count() == 5
        page.get_by_role("button", name="Any user").click()
        page.wait_for_function("() => !document.querySelector('#title').textContent.endsWith('u00030')")


def test_whom_nobody_knows_is_shown_what_is_popular(url: str, browser: Any) -> None:
    with browser.new_context() as context:  # the answer 404 to the question after his history is on the console
        page = context.new_page()
        page.goto(f"{url}/#user=nobody")
        page.wait_for_selector(".items li")
        assert page.locator(".list h2").inner_text() == "What most took"
        assert "Nothing is known" in page.locator("#took-note").inner_text()


def test_a_weight_changes_the_list_and_says_what_moved(url: str, browser: Any) -> None:
    with opened(browser, url, "#user=u00003") as page:
        before = listed(page)
        assert page.locator(".moved").count() == 0
        slider = page.get_by_label("image", exact=True)
        slider.focus()
        page.keyboard.press("End")
        settled(page)
        after = listed(page)
        assert after != before and "w.image=3" in page.url and "image 3.0" in page.locator("#mixed").inner_text()
        moves = page.locator(".moved").count()
        assert moves == sum(item not in before or before.index(item) != at for at, item in enumerate(after)) > 0
        page.get_by_role("button", name="As the model has it").click()
        settled(page)
        assert listed(page) == before and page.locator(".moved").count() == 0


def test_an_item_says_why_it_is_there(url: str, browser: Any) -> None:
    with opened(browser, url, "#user=u00003") as page:
        first = page.locator(".items > li").first
        assert first.locator(".badge").count() == 1 and first.locator(".shares").get_attribute("aria-label")
        button = first.get_by_role("button", name="Why")
        button.focus()
        page.keyboard.press("Enter")
        first.locator(".why").wait_for()
        assert button.get_attribute("aria-expanded") == "true"
        said = first.locator(".why").inner_text()
        assert all(word in said for word in ("image", "text", "fused", "rank 1", "Looks alike", "Reads alike"))
        assert first.locator(".near li").count() == 9
        page.keyboard.press("Enter")
        first.locator(".why").wait_for(state="detached")


def test_items_are_filtered_and_the_list_gets_longer(url: str, browser: Any) -> None:
    with opened(browser, url, "#user=u00003") as page:
        page.get_by_label("category").select_option("hats")
        settled(page)
        assert all(name.startswith("Hats") for name in page.locator(".items .name").all_inner_texts())
        page.get_by_label("category").select_option("")
        page.get_by_label("Items", exact=True).select_option("50")
        page.wait_for_function("() => document.querySelectorAll('.items > li').length === 50")


def test_two_exports_stand_side_by_side(url: str, browser: Any) -> None:
    with opened(browser, url, "#user=u00003") as page:
        page.get_by_label("Beside it").select_option("new")
        page.wait_for_selector(".lists.two")
        here, there = listed(page, 0), listed(page, 1)
        shared = len(set(here) & set(there))
        assert here != there and f"{shared} of 20 in both" in page.locator(".list .note").first.inner_text()
        assert page.locator(".list").first.locator(".only").count() == 20 - shared


def test_an_item_opens_and_starts_a_session(url: str, browser: Any) -> None:
    with opened(browser, url, "#user=u00003") as page:
        page.locator(".items .open").nth(1).click()
        name = page.locator("#item-title").inner_text()
        page.wait_for_selector("#alikes li")
        assert page.locator("#item dt").all_inner_texts() == ["item", "category", "price", "taken by"]
        alike = page.locator("#alikes").inner_text()
        page.get_by_role("button", name="Looks alike").click()
        page.wait_for_function("was => document.querySelector('#alikes').innerText !== was", arg=alike)
        page.get_by_role("button", name="Suppose it was taken").click()
        page.wait_for_function("() => document.querySelector('.list h2').textContent === 'Recommended for these'")
        assert page.locator("#basket").inner_text().startswith(name) and "taken=" in page.url
        page.reload()
        page.wait_for_selector("#history li")
        assert page.locator("#basket").inner_text().startswith(name)
        page.get_by_role("button", name="Back to the user").click()
        page.wait_for_function("() => document.querySelector('.list h2').textContent === 'Recommended'")
        page.locator("#history button").first.click()
        page.wait_for_selector("#item[open]")
        page.keyboard.press("Escape")
        assert not page.locator("#item").is_visible()


def test_the_map_is_walked_by_keyboard_and_shows_pictures(url: str, browser: Any) -> None:
    with opened(browser, url, "#user=u00003") as page:
        page.locator("#map-part").scroll_into_view_if_needed()
        page.wait_for_selector("#legend li")
        assert page.locator("#legend li").count() == 6
        page.locator("#map").focus()
        seen = set()
        for way in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown"):
            page.keyboard.press(way)
            seen.add(page.locator("#here").inner_text())
        assert len(seen) > 2 and page.locator("#tip .pic").count() == 1
        page.keyboard.press("+")
        page.keyboard.press("Enter")
        page.wait_for_selector("#item[open]")
        page.keyboard.press("Escape")
        assert page.evaluate(PAINTED)
        page.get_by_label("Alike by").select_option("image")
        page.wait_for_function("() => document.getElementById('map-note').textContent.includes('60 items')")


def test_pictures_are_shown_where_there_are_any(url: str, browser: Any) -> None:
    with opened(browser, url, "#user=u00003&k=50") as page:
        page.wait_for_function(
            "() => [...document.images].filter((i) => i.complete && i.naturalWidth === 40).length >= 1"
        )
        assert page.locator(".items .pic.letter").count() > page.locator(".items img").count() > 4


def test_where_a_key_is_needed_it_is_asked_for_once(exports: dict[str, Path], tmp_path: Path, browser: Any) -> None:
    with running({"old": exports["old"]}, tmp_path, api_key=KEY) as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}/#user=u00003&k=50")
        for wrong in ("no", KEY):
            page.get_by_role("textbox", name="Key").fill(wrong)
            page.get_by_role("button", name="Go on").click()
        page.wait_for_selector(".items li")
        page.wait_for_function("() => [...document.images].some((i) => i.naturalWidth === 40)")
        page.reload()
        page.wait_for_selector(".items li")
        assert not page.locator("#key").is_visible()


def test_what_goes_wrong_is_said_on_the_page(url: str, browser: Any) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}/#user=u00003")
        page.wait_for_selector(".items li")
        page.route("**/recommend", lambda route: route.abort())
        page.get_by_label("Items", exact=True).select_option("10")
        page.wait_for_selector("#problem:not([hidden])")
        assert "does not answer" in page.locator("#problem").inner_text()
        page.unroute("**/recommend")
        page.get_by_label("Items", exact=True).select_option("50")
        page.wait_for_selector("#problem", state="hidden")
