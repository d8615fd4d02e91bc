"""The page as text: what it says, that names stay names, and that it needs nothing from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_contents import HOSTILE, LEVELS, content, flat_png

from gan_lib.core.images import decode
from gan_lib.evaluation.report.content import Crop, Shown
from gan_lib.evaluation.report.figures import Figure
from gan_lib.evaluation.report.page import LONGEST_TEXT, MOST_REJECTED, figure, render, visible


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text outside of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._raw = ""
        self.raw: dict[str, str] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        if self._raw:
            self.raw[self._raw] = self.raw.get(self._raw, "") + data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def shape(page: Parsed) -> list[tuple[str, list[str]]]:
    """Elements and the names of their attributes: all that a name could add to."""
    return [(tag, sorted(attributes)) for tag, attributes in page.elements]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_adds_no_element_and_is_shown_as_it_is(name: str):
    harmless = Parsed(render(content(["a.png"], ["bicubic", "model"])))
    hostile = dataclasses.replace(content([name], ["bicubic", name]), title=name, protocols={"psnr": name})
    hostile = dataclasses.replace(hostile, shown=[dataclasses.replace(hostile.shown[0], remark="")])
    page = Parsed(render(hostile))
    assert shape(page) == shape(harmless)
    assert page.text.count(name) >= 8  # title twice, fact, method, protocol, extremes, sample, crop, rejected
    assert [image["alt"] for image in page.all("img") if image.get("src")][1] == f"{name}, {name}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photo\u202egpj.exe", "photo\\u202egpj.exe"),
        ("two\nlines\x00", "two\\u000alines\\u0000"),
        ("half \udc80 a character", "half \\udc80 a character"),
        ("zürich 東京.png", "zürich 東京.png"),
        ("x" * (LONGEST_TEXT + 1), "x" * LONGEST_TEXT + "…"),
    ],
    ids=["direction", "control", "surrogate", "letters", "long"],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, shown: str):
    assert visible(text) == shown
    assert shown in Parsed(render(content([text]))).text
    render(content([text])).encode()  # whatever the name, the page can be written


def test_nothing_is_taken_from_elsewhere():
    page = Parsed(render(content()))
    assert not re.search(r"https?:|//\w", re.sub(r"(?m)^\s*//.*", "", render(content())))
    assert not {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "base", "form", "video", "audio"}
    fetching = [a.get(key) for tag, a in page.elements for key in ("src", "href", "srcset", "action") if a.get(key)]
    assert fetching and all(url.startswith(("data:", "#")) for url in fetching if url)
    assert "@import" not in page.raw["style"] and "url(" not in page.raw["style"]
    assert not [attributes for _, attributes in page.elements if any(key.startswith("on") for key in attributes)]


def test_the_policy_lets_this_style_and_this_script_count_and_no_other():
    page = Parsed(render(content()))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    hashes = {
        tag: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for tag, text in page.raw.items()
    }
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": hashes["style"],
        "script-src": hashes["script"],
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_every_image_is_the_crop_that_was_given():
    page = Parsed(render(content(["a.png", "b.png"])))
    images = [image for image in page.all("img") if image.get("src")]
    assert len(images) == 6
    for image, level in zip(images, [*LEVELS.values()] * 2, strict=True):
        pixels = decode(base64.b64decode(str(image["src"]).removeprefix("data:image/png;base64,"), validate=True))
        assert pixels.shape == (24, 32, 3) and (pixels == level).all()
        assert (image["data-width"], image["data-height"]) == ("32", "24")
        assert (image["width"], image["height"]) == ("128", "96")  # enlarged by a whole number


def test_two_sides_can_be_chosen_among_all_methods_and_start_with_the_first_two():
    page = Parsed(render(content()))
    assert [choice.get("class") for choice in page.all("select")] == ["left", "right"]
    options = page.all("option")
    assert [option["value"] for option in options] == ["0", "1", "2"] * 2
    assert [number for number, option in enumerate(options) if "selected" in option] == [0, 4]
    assert page.all("input")[0]["type"] == "range"


def test_what_has_no_pairs_has_a_grid_of_each_method_and_no_slider():
    page = Parsed(render(content(["seed 1", "seed 2"], methods=["dcgan", "wgan_gp"], pairs=False)))
    assert not page.all("input") and not page.all("select")
    shown = ["seed 1, dcgan", "seed 2, dcgan", "seed 1, wgan_gp", "seed 2, wgan_gp"]
    assert [image["alt"] for image in page.all("img")] == shown


def test_one_method_alone_has_nothing_to_slide():
    page = Parsed(render(content(methods=["net"])))
    assert not page.all("input") and not page.all("select") and len(page.all("img")) == 1


def cells_of(page: str, table: str) -> list[list[str]]:
    section = page.partition(f'<section aria-labelledby="{table}">')[2].partition("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section, re.S)
    return [[" ".join(Parsed(cell).text.split()) for cell in re.split("</t[hd]>", row)[:-1]] for row in rows]


def test_means_are_shown_with_their_interval_and_deviation_and_gaps_are_named():
    report = dataclasses.replace(
        content(methods=["bicubic", "net"]),
        figures={"bicubic": {"psnr": Figure(28.4249, 1.25, (27.5, 29.3))}, "net": {"fid": Figure(12.3456)}},
        metrics=["psnr", "fid"],
    )
    assert cells_of(render(report), "results") == [
        ["Method", "psnr", "fid"],
        ["bicubic", "28.4227.50 to 29.30 ± 1.250", "not measured"],
        ["net", "not measured", "12.35"],
    ]


def test_differences_have_their_sign():
    page = render(content(methods=["bicubic", "net"]))
    assert "Against bicubic" in Parsed(page).text
    assert "bootstrap" in Parsed(page).text
    assert cells_of(page, "differences") == [["Method", "psnr"], ["net", "+1.500−0.2500 to +2.500 ± 0.5000"]]
    assert "Against" not in Parsed(render(content(methods=["net"]))).text


def test_a_report_of_nothing_but_rejects_says_why_and_stays_small():
    report = dataclasses.replace(
        content(), samples=0, figures={}, base="", differences={}, metrics=[], protocols={}, extremes=None, shown=[],
        rejected={f"{number}.png": "corrupt: cut short" if number else "too-small: 3x3" for number in range(5000)},
    )  # fmt: skip
    page = render(report)
    text = Parsed(page).text
    assert "4999 corrupt, 1 too-small" in text and "5000 rejected" in text
    assert text.count("cut short") == MOST_REJECTED - 1 and f"The first {MOST_REJECTED} of 5000" in text
    assert len(page) < 100_000


def test_samples_that_there_was_no_room_for_are_counted():
    assert "room" not in Parsed(render(content())).text
    assert "7 more samples have no room" in Parsed(render(dataclasses.replace(content(), beyond=7))).text


def test_crops_of_unlike_sizes_tell_their_own():
    crops = [Crop("input", flat_png(9, 16, 12)), Crop("target", flat_png(9, 64, 48))]
    page = Parsed(render(dataclasses.replace(content(), shown=[Shown("a", crops)])))
    assert [image["data-width"] for image in page.all("img") if image.get("src")] == ["16", "64"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(28.4249, "28.42"), (0.8104, "0.8104"), (27.9, "27.90"), (100.0, "100.0"), (12345.6, "12,346"), (0.0, "0.000")],
)
def test_four_digits_are_shown(value: float, shown: str):
    assert figure(value) == shown


def test_the_page_is_read_from_a_zip_of_what_is_installed(repository: Path, tmp_path: Path):
    build = ["--quiet", "build", "--build-base", str(tmp_path / "base"), "--build-lib", str(tmp_path / "lib")]
    subprocess.run([sys.executable, "setup.py", *build], cwd=repository, check=True, capture_output=True)
    archive = shutil.make_archive(str(tmp_path / "gan_lib"), "zip", tmp_path / "lib")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from gan_lib.evaluation.report.page import render\n"
        "from report_contents import content\n"
        "assert sys.argv[1] in render.__code__.co_filename\n"
        "print(render(content()))"
    )
    helpers = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", program, archive]
    done = subprocess.run(command, cwd=tmp_path, env=helpers, check=True, capture_output=True, text=True)
    assert done.stdout == render(content()) + "\n"
