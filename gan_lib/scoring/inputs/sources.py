"""Where a job finds what goes into a net beside each image: in columns, in folders, or in its settings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException

from gan_lib.cluster.parquet_table import ParquetTable
from gan_lib.core import storage
from gan_lib.core.errors import UserError
from gan_lib.core.listing import require_folder
from gan_lib.scoring.inputs.decoders import WITH_PIXELS, columns_beside, require_image_to_image
from gan_lib.scoring.model import Model
from gan_lib.scoring.settings import InputSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def require_sources(model: Model, settings: InputSettings, columns: Iterable[str] = ()) -> None:
    """Check that the settings, or ``columns`` of the table, give all that goes into the model, and nothing else.

    Raises:
        UserError: an input comes from nowhere or from two places, a key names none, or no image goes in or comes out.
    """
    require_image_to_image(model.uri, model.description)
    beside = columns_beside(model.description)
    wanted = [column.name for column in beside]
    named = [*settings.values, *settings.columns, *settings.folders]
    for name in named:
        if name not in wanted:
            known = f"takes {', '.join(wanted)}" if wanted else "takes nothing"
            raise UserError(f"input names {name}, but the model {model.uri} {known} beside the image: remove that key.")
        if named.count(name) > 1:
            raise UserError(f"input names two sources of {name}: keep one.")
    given = {*named, *columns}
    missing = [column.name for column in beside if not column.optional and column.name not in given]
    if missing:
        where = "columns" if settings.table is not None else "folders"
        raise UserError(
            f"The model {model.uri} takes {missing[0]} beside the image: set input.{where}.{missing[0]}, "
            f"or input.values.{missing[0]} where all images share it."
        )


def constants(model: Model, settings: InputSettings) -> dict[str, Any]:
    """What all images share, by the input's name; of an image, which is named by its URL, the encoded bytes.

    Raises:
        UserError: there is no such file.
    """
    values: dict[str, Any] = dict(settings.values)
    for name, value in settings.values.items():
        if isinstance(model.description.inputs.get(name), WITH_PIXELS):
            try:
                values[name] = storage.read_bytes(str(value))
            except OSError as error:
                raise UserError(f"input.values.{name} = {value} cannot be read: {error}.") from None
    return values


def folders(settings: InputSettings) -> dict[str, str]:
    """Input -> folder of its files, made absolute.

    Raises:
        UserError: a folder is not there.
    """
    return {name: require_folder(url) for name, url in settings.folders.items()}


def read_table(spark: SparkSession, model: Model, settings: InputSettings) -> DataFrame:
    """The table's rows as ``key``, ``content`` and, where more goes into the model, a struct ``beside`` by input.

    Raises:
        UserError: there is no such table, or it lacks a column, or one holds what the model cannot take.
    """
    with _explained(settings):
        table = _opened(spark, settings)
        require_sources(model, settings, table.columns)
        beside = _columns(model, settings, table.columns)
        columns = [_cast(settings.key, "string", "key"), _cast(settings.content, "binary", "content")]
        if beside:
            columns.append(f"struct({', '.join(value for _, value in beside)}) as beside")
        return _chosen(table, [settings.key, settings.content, *(source for source, _ in beside)]).selectExpr(*columns)


def read_keys(spark: SparkSession, settings: InputSettings) -> DataFrame:
    """The table's column ``key`` alone, which costs little.

    Raises:
        UserError: there is no such table, or it lacks the column.
    """
    with _explained(settings):
        return _chosen(_opened(spark, settings), [settings.key]).selectExpr(_cast(settings.key, "string", "key"))


def _opened(spark: SparkSession, settings: InputSettings) -> DataFrame | ParquetTable:
    table = str(settings.table)
    return ParquetTable(spark, table) if "/" in table else spark.table(table)


def _chosen(table: DataFrame | ParquetTable, columns: Sequence[str]) -> DataFrame:
    return table.frame(columns) if isinstance(table, ParquetTable) else table


@contextmanager
def _explained(settings: InputSettings) -> Iterator[None]:
    try:
        yield
    except AnalysisException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"The table {settings.table} cannot be scored: {reason}") from None


def _columns(model: Model, settings: InputSettings, existing: Collection[str]) -> list[tuple[str, str]]:
    """(column of the table, what is made of it for the net)."""
    chosen = []
    for column in columns_beside(model.description):
        name, source = column.name, settings.columns.get(column.name, column.name)
        if name not in settings.values and (name in settings.columns or name in existing):
            with_pixels = isinstance(model.description.inputs.get(name), WITH_PIXELS)
            chosen.append((source, _cast(source, "binary", name) if with_pixels else f"`{source}` as `{name}`"))
    return chosen


def _cast(column: str, sql_type: str, name: str) -> str:
    return f"cast(`{column}` as {sql_type}) as `{name}`"
