"""Two folders whose images belong together by their names, as pix2pix learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gan_lib.core.config import Settings
from gan_lib.preprocessing.samples import ARROW_SCHEMA
from gan_lib.preprocessing.sources.folder import list_folder, plain_items
from gan_lib.preprocessing.sources.listing import Context, Listing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class PairedFolders(Settings):
    """``input/x/1.png`` belongs to ``target/x/1.jpg``: names must be the same but for what follows the last dot."""

    kind: Literal["paired_folders"]
    input: str
    """folder or URL of what is given; field ``input`` of the dataset"""
    target: str
    """folder or URL of what is to be made of it; field ``target``"""

    def listing(self, context: Context) -> Listing:
        """The pairs; an image without its partner is a reject.

        Raises:
            UserError: one of the folders is not there.
        """
        inputs = list_folder(context, self.input, plain_items)
        targets = list_folder(context, self.target, plain_items)
        return Listing(_paired(inputs, targets), images=("input", "target"))


def _paired(inputs: DataFrame, targets: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    def side(frame: DataFrame, name: str) -> DataFrame:
        stem = F.regexp_replace("name", r"\.[^./]*$", "").alias("stem")
        return frame.select(stem, *(F.col(column).alias(f"{name}_{column}") for column in frame.columns))

    both = side(inputs, "input").join(side(targets, "target"), "stem", "full_outer")
    alone = F.when(F.col("input_name").isNull(), F.lit("no-partner: there is no input of this name"))
    alone = alone.when(F.col("target_name").isNull(), F.lit("no-partner: there is no target of this name"))
    nothing = F.expr("cast(array() as array<struct<url: string, offset: bigint, length: bigint>>)")
    columns = {
        "name": F.concat_ws(" + ", "input_name", "target_name"),
        "parts": F.concat(F.coalesce("input_parts", nothing), F.coalesce("target_parts", nothing)),
        "fields": F.lit("{}"),
        "stamp": F.concat_ws(" + ", "input_stamp", "target_stamp"),
        "problem": F.coalesce("input_problem", "target_problem", alone),
    }
    return both.select(*(columns[name].alias(name) for name in ARROW_SCHEMA.names))
