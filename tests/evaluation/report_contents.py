"""Reports whose every word is known, those of strangers among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gan_lib.core.images import encode_png
from gan_lib.evaluation.report.content import Content, Crop, Extremes, Shown
from gan_lib.evaluation.report.figures import Figure

HOSTILE = (
    "<img src=x onerror=pwned()>",
    "</script><script>pwned()</script>",
    "</title><script>pwned()</script>",
    '"><svg onload=pwned()>',
    "' onmouseover='pwned()",
    "{{ 7 * 7 }}{% include 'x' %}",
    "-->]]>&lt;b&gt;&#x3c;",
    "</style><style>*{background:red}",
)
"""Names that would run something, or look like something else, on a page that takes them as they are."""
LEVELS = {"bicubic": 40, "net": 120, "target": 200}
"""Method -> grey level of its crops."""


def flat_png(level: int, width: int = 32, height: int = 24) -> bytes:
    return encode_png(np.full((height, width, 3), level, np.uint8))


def content(
    names: Sequence[str] = ("a.png",),
    methods: Sequence[str] = tuple(LEVELS),
    pairs: bool = True,
    width: int = 32,
    height: int = 24,
) -> Content:
    """Samples of flat crops, of LEVELS where the method is one of those."""
    levels = {method: LEVELS.get(method, 10 * number) for number, method in enumerate(methods)}
    crops = [Crop(method, flat_png(level, width, height), {"psnr": 28.42}) for method, level in levels.items()]
    return Content(
        title="Super resolution",
        samples=len(names),
        facts=[(f"model {method}", f"models:/{method}/3") for method in methods],
        figures={method: {"psnr": Figure(28.42, 1.25, (27.5, 29.3))} for method in methods},
        base=methods[0] if len(methods) > 1 else "",
        differences={method: {"psnr": Figure(1.5, 0.5, (-0.25, 2.5))} for method in methods[1:]},
        metrics=["psnr"],
        protocols={"psnr": "name PSNR, samples 5, crop 4, channels Y of BT.601"},
        extremes=Extremes(methods[0], "psnr", [(names[0], 31.5)], [(names[-1], 24.25)]),
        shown=[Shown(name, crops) for name in names],
        pairs=pairs,
        rejected={f"broken {name}": f"corrupt: {name}" for name in names},
    )
