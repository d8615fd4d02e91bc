"""The report as a person meets it: in a browser, with a mouse, a finger and a keyboard."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from headless_chromium import MISSING, Browser, Page, browser, find_browser
from report_contents import HOSTILE, LEVELS, content

from gan_lib.core.images import decode
from gan_lib.evaluation.report.content import Content
from gan_lib.evaluation.report.page import render

Opener = Callable[..., Page]

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844, "scale": 3, "touch": True}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip(MISSING)
    with browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def open_report(chromium: Browser, tmp_path: Path) -> Iterator[Opener]:
    pages = []

    def open_report(report: Content, **device: float) -> Page:
        (tmp_path / "report.html").write_text(render(report), encoding="utf-8")
        page = chromium.page(**(device or DESKTOP))
        page.open(tmp_path / "report.html")
        # What follows the size of the screen is laid out a frame later.
        page.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
        pages.append(page)
        return page

    yield open_report
    for page in pages:
        page.command("Page.close")


def levels_shown(page: Page) -> np.ndarray:
    """Grey levels along a quarter of the frame's height, left to right; one for each percent of its width."""
    page.value("document.querySelector('.frame').scrollIntoView()")
    box = page.value(
        "(({x, y, width, height}) => ({x, y, width, height}))(document.querySelector('.frame').getBoundingClientRect())"
    )
    clip = {**box, "y": box["y"] + page.value("scrollY") + box["height"] / 4, "height": 2, "scale": 1}
    shot = page.command("Page.captureScreenshot", format="png", clip=clip)
    pixels = decode(base64.b64decode(shot["data"]))[0].mean(axis=1)
    return pixels[((np.arange(100) + 0.5) * len(pixels) / 100).astype(int)]


def boundary_shown(page: Page) -> int:
    """Where along the frame the first method's level ends and the second's begins, in percent."""
    levels = levels_shown(page)
    left, right = (np.flatnonzero(levels == LEVELS[method]) for method in ("bicubic", "net"))
    assert len(left) + len(right) >= 96  # the line between them takes the rest
    assert not len(left) or not len(right) or left.max() < right.min()
    return round((left.max(initial=-1) + 1 + right.min(initial=100)) / 2)


def test_every_image_is_there_nothing_is_fetched_and_nothing_is_wrong(open_report: Opener, tmp_path: Path):
    page = open_report(content(["a.png", "b.png"]))
    widths = page.value("[...document.images].map(image => image.naturalWidth)")
    assert widths == [32] * 10  # two samples: three crops each, and the two under the slider
    from_outside = {url for url in page.requested() if not url.startswith("data:")}
    assert from_outside == {(tmp_path / "report.html").as_uri()}
    assert page.problems() == []


def test_hostile_names_run_nothing_and_are_read_as_they_are(open_report: Opener, tmp_path: Path):
    page = open_report(content(HOSTILE, methods=["bicubic", *HOSTILE]))
    assert page.value("[...document.querySelectorAll('.sample .name')].map(e => e.textContent)") == list(HOSTILE)
    options = page.value("[...document.querySelector('.left').options].map(option => option.textContent)")
    assert options == ["bicubic", *HOSTILE]
    page.value("document.querySelector('.left').selectedIndex = 2")
    page.value("document.querySelector('.left').dispatchEvent(new Event('change'))")
    assert HOSTILE[1] in page.value("document.querySelector('.boundary').textContent")
    assert page.problems() == []  # an error of the missing function pwned would be one
    assert {url for url in page.requested() if not url.startswith("data:")} == {(tmp_path / "report.html").as_uri()}


def test_the_policy_stops_what_would_fetch_or_run(open_report: Opener):
    asked: list[str] = []

    class Listening(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listening)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        page = open_report(content())
        add = "(tag, given) => document.body.append(Object.assign(document.createElement(tag), given))"
        page.value(f"({add})('script', {{textContent: 'globalThis.ran = true'}})")
        page.value(f"({add})('img', {{src: '{url}/image', onerror: 'globalThis.ran = true'}})")
        page.value(f"({add})('link', {{rel: 'stylesheet', href: '{url}/style'}})")
        page.value(f"({add})('script', {{src: '{url}/script'}})")
        assert page.value(f"fetch('{url}/fetch').then(() => 'fetched', () => 'refused')") == "refused"
        page.wait_for("document.images[document.images.length - 1].complete")
    finally:
        server.shutdown()
        server.server_close()
    assert asked == [] and page.value("typeof ran") == "undefined"


def test_the_slider_moves_by_keyboard_and_shows_where_the_focus_is(open_report: Opener):
    page = open_report(content())
    assert boundary_shown(page) == 50
    page.value("document.querySelector('.right').focus()")
    page.press("Tab")
    assert page.value("document.activeElement.type") == "range"
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for _ in range(5):
        page.press("ArrowRight")
    assert boundary_shown(page) == 55
    assert page.value(
        "document.activeElement.ariaValueText ?? document.activeElement.getAttribute('aria-valuetext')"
    ) == ("55 % bicubic, 45 % net")
    page.press("ArrowLeft")
    assert boundary_shown(page) == 54
    page.press("Home")
    assert boundary_shown(page) == 0 and page.value("document.activeElement.value") == "0"
    page.press("End")
    assert boundary_shown(page) == 100


def test_the_slider_has_a_name_that_says_what_lies_on_either_side(open_report: Opener):
    page = open_report(content())
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    names: dict[str, list[str]] = {}
    for node in nodes:
        names.setdefault(node.get("role", {}).get("value"), []).append(node.get("name", {}).get("value"))
    assert names["slider"] == ["Boundary between bicubic (left) and net (right)"]
    assert names["combobox"] == ["Left", "Right"]


def at(page: Page, percent: float) -> tuple[float, float]:
    """A point of the frame, on the screen."""
    box = page.value("document.querySelector('.frame').getBoundingClientRect().toJSON()")
    return box["x"] + box["width"] * percent / 100, box["y"] + box["height"] / 2


def test_the_slider_follows_the_mouse_while_its_button_is_down(open_report: Opener):
    page = open_report(content())
    page.value("document.querySelector('.sample').scrollIntoView()")
    page.drag([at(page, 50), at(page, 40), at(page, 25)])
    assert boundary_shown(page) == 25
    page.command("Input.dispatchMouseEvent", type="mouseMoved", x=at(page, 80)[0], y=at(page, 80)[1])
    assert boundary_shown(page) == 25
    x, y = at(page, 90)
    page.drag([(x, y), (x + 2000, y)])  # outside of the frame it stays with its edge
    assert boundary_shown(page) == 100


def test_the_slider_follows_a_finger(open_report: Opener):
    page = open_report(content(), **PHONE)
    page.value("document.querySelector('.sample').scrollIntoView()")
    page.swipe([at(page, 50), at(page, 60), at(page, 70), at(page, 75)])
    assert page.value("document.querySelector('.boundary input').value") in ("74", "75", "76")
    assert abs(boundary_shown(page) - 75) <= 1


def test_any_two_methods_can_be_compared(open_report: Opener):
    page = open_report(content())
    for side, number in (("left", 2), ("right", 0)):
        page.value(f"document.querySelector('.{side}').selectedIndex = {number}")
        page.value(f"document.querySelector('.{side}').dispatchEvent(new Event('change'))")
    page.wait_for("[...document.querySelectorAll('.frame img')].every(image => image.complete)")
    levels = levels_shown(page)
    assert (levels[:48] == LEVELS["target"]).all() and (levels[52:] == LEVELS["bicubic"]).all()
    assert page.value("document.querySelector('.boundary').textContent").strip() == (
        "Boundary between target (left) and bicubic (right)"
    )


@pytest.mark.parametrize(("size", "whole"), [((32, 24), True), ((128, 96), True), ((2000, 50), False)], ids=str)
@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_both_images_are_as_large_and_pixels_are_enlarged_by_whole_numbers(
    open_report: Opener, device: dict[str, float], size: tuple[int, int], whole: bool
):
    page = open_report(content(width=size[0], height=size[1]), **device)
    over, under = page.value(
        "['over', 'under'].map(name => document.querySelector('.' + name).getBoundingClientRect().toJSON())"
    )
    assert over == under
    zoom = over["width"] * device.get("scale", 1) / size[0]
    assert (abs(zoom - round(zoom)) < 1e-3 and zoom >= 1) == whole
    assert over["height"] / over["width"] == pytest.approx(size[1] / size[0], rel=0.02)
    rendering = page.value("getComputedStyle(document.querySelector('.over')).imageRendering")
    assert rendering == ("pixelated" if whole else "auto")
    assert page.value("document.documentElement.scrollWidth <= innerWidth")  # the page never scrolls sideways


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(open_report: Opener, dark: bool):
    page = open_report(content(), **DESKTOP, dark=dark)
    ground = page.value("getComputedStyle(document.body).backgroundColor")
    for selector in ("h1", "td b", ".small", ".facts dt", "a"):
        colour = page.value(f"getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(colour, ground) >= 4.5, f"{selector}: {colour} on {ground}"  # WCAG 2.2, criterion 1.4.3
    assert (luminance(ground) < 0.1) == dark


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(R, G, B)", as WCAG defines it."""
    levels = np.array([int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
