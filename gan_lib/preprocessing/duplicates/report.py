"""``duplicates.html``: the near duplicates that were dropped beside what represents them, for a person to judge."""

from __future__ import annotations

import base64
import html

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gan_lib.core.images import encode_png
from gan_lib.preprocessing.duplicates.matching import ThumbnailsOf

DUPLICATES_REPORT = "duplicates.html"

_MOST_PAIRS = 500

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Near duplicates</title>
<style>
body {{ font-family: sans-serif }}
img {{ width: 128px; height: 128px }}
td {{ padding: 4px 12px; overflow-wrap: anywhere; max-width: 24em }}
</style></head><body>
<h1>Near duplicates</h1>
<p>{total} dropped; the {shown} with the lowest scores are shown. The score is the correlation of the two thumbnails,
once aligned. Thumbnails are grey and square, whatever the image is.</p>
<table><tr><th>score</th><th colspan="2">dropped</th><th colspan="2">represented by</th></tr>
{rows}
</table></body></html>
"""
_ROW = "<tr><td>{score:.4f}</td><td>{dropped}</td><td>{name}</td><td>{kept}</td><td>{representative}</td></tr>"


def duplicates_report(duplicates: pa.Table, names: pa.ChunkedArray, thumbnails: ThumbnailsOf) -> str:
    """A page that needs no other file.

    Args:
        duplicates: what :func:`gan_lib.preprocessing.duplicates.matching.find_duplicates` has found.
        names: of the samples known, followed by the new ones.
        thumbnails: of the same samples.
    """
    near = duplicates.filter(pc.is_valid(duplicates["score"]))
    shown = near.sort_by([("score", "ascending"), ("row", "ascending")]).slice(0, _MOST_PAIRS)
    dropped, kept = (shown[column].to_numpy() for column in ("row", "representative_row"))
    rows = [
        _ROW.format(
            score=score,
            dropped=_inline(left),
            name=html.escape(names[row].as_py()),
            kept=_inline(right),
            representative=html.escape(representative),
        )
        for score, row, representative, left, right in zip(
            shown["score"].to_pylist(),
            dropped.tolist(),
            shown["representative"].to_pylist(),
            thumbnails(dropped),
            thumbnails(kept),
            strict=True,
        )
    ]
    return _PAGE.format(total=len(near), shown=len(shown), rows="\n".join(rows))


def _inline(thumbnail: np.ndarray) -> str:
    encoded = base64.b64encode(encode_png(thumbnail[..., None])).decode()
    return f'<img alt="" src="data:image/png;base64,{encoded}">'
