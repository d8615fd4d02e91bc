"""The report as one HTML file that needs nothing else: style, script and images are in it.

Names of samples and models are what strangers chose. They are escaped by the template engine; what a reader could not
see, or would see wrongly, is spelled out; and the page's own policy lets nothing run but its one script, and nothing be
fetched, so that a name that came through all this could still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from gan_lib.core.images import size_of
from gan_lib.evaluation.report import figures
from gan_lib.evaluation.report.content import MOST_IMAGE_BYTES, Content, Crop

LONGEST_TEXT = 300
"""Characters of a name or a reason that are shown."""
MOST_REJECTED = 200
"""Rejected samples that are named; results.parquet names all."""
SMALL_SIDE = 128
"""Pixels of the screen that a crop beside the slider is about as wide as; wider ones are made smaller, smoothly."""


def render(content: Content) -> str:
    """The page."""
    return _template().render(content=content, has_intervals=has_intervals(content), **_own_parts())


def data_uri(png: bytes) -> str:
    """The image as a URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def visible(text: object) -> str:
    """``text`` as one line of at most :data:`LONGEST_TEXT` characters that reads as it is stored.

    Control characters, marks that turn the direction of writing and what is no character are spelled out.
    """
    text = str(text)
    shown = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    return "".join(_spelled(c) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in shown)


def figure(value: float) -> str:
    """A number with four digits that count: 28.42, 0.8104, 12,345."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:#.4g}"


def signed(value: float) -> str:
    """As :func:`figure`, with its sign."""
    return f"{'−' if value < 0 else '+'}{figure(abs(value))}"


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy under which this style and this script count, images lie in the page, and no more."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def pixel_size(crop: Crop) -> dict[str, int]:
    """A crop's own width and height, and by which whole number it is enlarged where it is shown small."""
    height, width = size_of(crop.png)
    return {"width": width, "height": height, "zoom": max(1, SMALL_SIDE // width)}


def kinds_of(rejected: Mapping[str, str]) -> list[tuple[str, int]]:
    """The kinds of reasons, "corrupt" of "corrupt: cut short", and how many samples each has; the commonest first."""
    return Counter(reason.partition(":")[0] for reason in rejected.values()).most_common()


def has_intervals(content: Content) -> bool:
    """Whether any figure is a mean of which it is known how sure it is."""
    return any(one.interval for of_method in content.figures.values() for one in of_method.values())


def _own_parts() -> dict[str, object]:
    style, script = _file("page.css"), _file("page.js")
    return {
        "style": Markup(style),
        "script": Markup(script),
        "policy": policy(style, script),
        "most_rejected": MOST_REJECTED,
        "most_megabytes": MOST_IMAGE_BYTES // 2**20,
        "kinds_of": kinds_of,
        "pixel_size": pixel_size,
        "small_side": SMALL_SIDE,
        "figure": figure,
        "signed": signed,
        "resamples": figures.RESAMPLES,
        "confidence": round(100 * figures.CONFIDENCE),
    }


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(visible=visible, figure=figure, data_uri=data_uri)
    return environment.from_string(_file("page.html"))


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _spelled(character: str) -> str:
    return f"\\u{ord(character):04x}"
