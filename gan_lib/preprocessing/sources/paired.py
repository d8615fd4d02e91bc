"""Two folders whose files belong together by their names, as pix2pix learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gan_lib.core.config import Settings, Url
from gan_lib.preprocessing.samples import ARROW_SCHEMA
from gan_lib.preprocessing.sources.folder import list_folder, plain_samples
from gan_lib.preprocessing.sources.listing import Context, Listing
from gan_lib.preprocessing.sources.name_labels import NamePattern, labelled_by_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class PairedFolders(Settings):
    """``input/x/1.png`` belongs to ``target/x/1.jpg``: names must be the same but for what follows the last dot."""

    kind: Literal["paired_folders"]
    input: Url
    """folder or URL of what is given; field ``input`` of the dataset"""
    target: Url
    """folder or URL of what is to be made of it; field ``target``"""
    labels_from_name: NamePattern | None = None
    """regular expression whose named groups, found in each pair's name ("INPUT + TARGET"), become fields of classes"""

    def listing(self, context: Context) -> Listing:
        """The pairs; a file without its counterpart is a reject.

        Raises:
            UserError: one of the folders is not there, or ``labels_from_name`` does not suit what is in them.
        """
        inputs = list_folder(context, self.input, plain_samples)
        targets = list_folder(context, self.target, plain_samples)
        listing = Listing(_paired(inputs, targets), parts=("input", "target"))
        return labelled_by_name(listing, self.labels_from_name, context)


def _paired(inputs: DataFrame, targets: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    def side(frame: DataFrame, name: str) -> DataFrame:
        stem = F.regexp_replace("name", r"\.[^./]*$", "").alias("stem")
        return frame.select(stem, *(F.col(column).alias(f"{name}_{column}") for column in frame.columns))

    both = side(inputs, "input").join(side(targets, "target"), "stem", "full_outer")
    alone = F.when(F.col("input_name").isNull(), F.lit("no-counterpart: there is no input of this name"))
    alone = alone.when(F.col("target_name").isNull(), F.lit("no-counterpart: there is no target of this name"))
    nothing = F.expr("cast(array() as array<struct<url: string, offset: bigint, length: bigint>>)")
    columns = {
        "name": F.concat_ws(" + ", "input_name", "target_name"),
        "parts": F.concat(F.coalesce("input_parts", nothing), F.coalesce("target_parts", nothing)),
        "fields": F.lit("{}"),
        "etag": F.concat_ws(" + ", "input_etag", "target_etag"),
        "problem": F.coalesce("input_problem", "target_problem", alone),
    }
    return both.select(*(columns[name].alias(name) for name in ARROW_SCHEMA.names))
