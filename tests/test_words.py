"""The house speaks the field's words and its floors are not mixed: names, imports and the size of rooms.

Nothing is imported: files are parsed, so this takes a second and needs no Spark.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "gan_lib").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")])

# Our own old word -> the field's. A name is cut into words; several words must stand next to each other.
WORDS = {
    "picture": "image",
    "pictures": "images",
    "made": "fake",
    "guess": "prediction",
    "truth": "target",
    "clock": "Progress",
    "phase": "Update",
    "phases": "updates",
    "turn": "step, rot90",
    "turns": "steps",
    "due": "schedule",
    "tame": "clip_and_check",
    "judge": "EarlyStopping, discriminator",
    "hopeless": "should_stop",
    "gives up": "should_stop",
    "rank 0 says": "broadcast_from_rank0",
    "spread": "max_divergence, parallelize",
    "feed": "DataSource",
    "place": "global_index",
    "left out": "remainder",
    "tape": "order",
    "stretch": "segment",
    "hole": "dropped span",
    "window": "shuffle block",
    "delivery": "DevicePrefetcher",
    "memory of batches": "BufferPool",
    "looks": "phash",
    "copies": "duplicates",
    "stand in": "representative",
    "images a second": "images_per_second",
    "deal": "bin_pack",
    "hands": "bins",
    "grain": "WorkUnit",
    "workshop": "TaskContext",
    "shelf": "ShardWriter",
    "accounts": "sample status",
    "ledger": "sample status",
    "colour": "channel",
    "colours": "channels",
    "halvings": "num_downsamples",
    "mirror": "hflip",
    "mirrored": "hflip",
    "partner": "domain_b",
    "aux": "frozen",
    "start from": "init_from",
    "patience": "timeout",
    "sheet": "comparison grid",
    "strip": "row",
    "stamp": "etag, provenance",
    "stamped": "etag, provenance",
    "note": "commit record",
    "translator": "Artifact",
    "multiple": "size_divisor",
    "load": "commit",
}
# Words with a second meaning that is not ours to give: in these folders alone they are the old dialect.
ONLY_IN = {
    "share": (("gan_lib/losses.py", "gan_lib/recipes", "gan_lib/nets"), "alpha"),
    "memory": (("gan_lib/recipes", "gan_lib/training", "gan_lib/nets"), "rank_state"),
    "watch": (("gan_lib/scoring",), "stream state"),
    "detail": (("gan_lib/evaluation",), "crop"),
    "details": (("gan_lib/evaluation",), "crops"),
    "Generator": (("gan_lib/scoring",), "TilePredictor"),
}
# (file or folder, name) -> why it may stay. A name counts wherever it occurs below the folder.
ALLOWED = {
    ("gan_lib/cluster/watch.py", "watch"): "the progress watch, as DESIGN.md calls it",
    ("gan_lib/training/settings.py", "patience"): "the field's own word in early stopping",
    ("gan_lib/recipes/samples.py", "NoteSamples"): "the notes of music",
    ("gan_lib/training/optimization/ema.py", "in_place"): "the field's own word for writing over a tensor",
}


@dataclass(frozen=True)
class Name:
    """A name that somebody chose, and where."""

    text: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.text}"


def words_of(name: str) -> list[str]:
    """``Rank0Says`` and ``rank_0_says`` -> rank, 0, says."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def old_word(name: Name) -> str | None:
    """The first word of the dialect in ``name``; None where there is none, or it is allowed."""
    if any(name.text == text and within(name.file, folder) for folder, text in ALLOWED):
        return None
    words = words_of(name.text)
    if words[:1] == ["load"]:  # the verb; what is refused is the noun
        words = words[1:]
    spelled = f" {' '.join(words)} "
    for word, instead in WORDS.items():
        if f" {word} " in spelled:
            return f"{word}, not {instead}"
    for word, (folders, instead) in ONLY_IN.items():
        found = name.text == word or f" {word} " in spelled
        if found and any(within(name.file, folder) for folder in folders):
            return f"{word}, not {instead}"
    return None


def within(file: str, folder: str) -> bool:
    return file == folder or file.startswith(f"{folder}/")


def names_in(path: Path) -> Iterator[Name]:
    """Names of the file, its classes, functions, arguments, attributes, and of the columns of tables."""
    file = path.relative_to(ROOT).as_posix()
    yield Name(path.stem, file, 1)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield Name(node.name, file, line)
        elif isinstance(node, ast.arg):
            yield Name(node.arg, file, line)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield Name(node.attr, file, line)
        elif isinstance(node, ast.Call):
            yield from (Name(column, file, line) for column in columns_of_call(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (Name(column, file, line) for column in columns_of_ddl(node.value))
        if isinstance(node, ast.ClassDef):
            fields = (item.target for item in node.body if isinstance(item, ast.AnnAssign))
            yield from (Name(field.id, file, field.lineno) for field in fields if isinstance(field, ast.Name))


def columns_of_call(call: ast.Call) -> list[str]:
    """Columns of ``pa.schema([("NAME", ...)])``, ``pa.field("NAME", ...)``, ``StructField("NAME", ...)``."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    texts: list[ast.expr] = []
    if called in ("field", "StructField", "withColumn", "alias"):
        texts = call.args[:1]
    elif called == "schema" and call.args:
        rows = getattr(call.args[0], "elts", [])
        texts = [row.elts[0] for row in rows if isinstance(row, ast.Tuple) and row.elts]
        texts += getattr(call.args[0], "keys", [])
    return [text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)]


TYPES = r"(?:string|binary|boolean|double|float|bigint|int|long|timestamp|array<.*>|struct<.*>|map<.*>)"


def columns_of_ddl(text: str) -> list[str]:
    """Columns of a schema that Spark reads from text, such as "name string, bytes binary"."""
    if not re.fullmatch(rf"\s*\w+:? {TYPES}(?:\s*,\s*\w+:? {TYPES})*\s*", text):
        return []
    return re.findall(rf"(\w+):? {TYPES}", text)


def keys_of_yaml(path: Path) -> Iterator[Name]:
    def walk(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield key
                yield from walk(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                yield from walk(value)

    file = path.relative_to(ROOT).as_posix()
    yield Name(path.stem, file, 1)
    for key in walk(yaml.compose(path.read_text(encoding="utf-8"))):
        yield Name(key.value, file, key.start_mark.line + 1)


def report(offences: list[str]) -> str:
    return "\n".join([f"{len(offences)} offences:", *offences])


def test_no_name_in_the_package_the_jobs_or_the_configurations_is_a_word_of_the_old_dialect():
    names = [name for path in SOURCES for name in names_in(path)]
    names += [name for path in sorted((ROOT / "conf").rglob("*.yaml")) for name in keys_of_yaml(path)]
    assert len(names) > 1000
    offences = [f"{name}: {word}" for name in names if (word := old_word(name))]
    assert not offences, report(offences)


def test_every_exception_from_the_words_is_still_needed():
    names = {(name.file, name.text) for path in SOURCES for name in names_in(path)}
    unused = [key for key in ALLOWED if not any(within(file, key[0]) and text == key[1] for file, text in names)]
    assert not unused, f"nothing is called so any more: {unused}"


@pytest.mark.parametrize(
    ("name", "is_old"),
    [
        *[("Clock", True), ("wall_clock", True), ("images_a_second", True), ("rank_0_says", True), ("returns", False)],
        *[("striped", False), ("images_per_second", False), ("DueDate", True), ("JPEGSheet", True)],
        *[("load_best", False), ("gpu_load", True), ("Load", False)],
    ],
)
def test_a_word_is_found_as_a_whole_word_in_any_spelling(name: str, is_old: bool):
    assert (old_word(Name(name, "gan_lib/x.py", 1)) is not None) == is_old


def test_columns_are_seen_in_arrow_and_in_spark_schemas():
    tree = ast.parse('pa.schema([("strip", pa.string()), pa.field("sheet", pa.binary())])\nframe.alias("truth")')
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert sorted(column for call in calls for column in columns_of_call(call)) == ["sheet", "strip", "truth"]
    assert columns_of_ddl("name string, detail binary") == ["name", "detail"]
    assert columns_of_ddl("the name string") == []


# From the ground up; a room imports from the rooms of its own line and of those above it in this list.
FLOORS = (
    ("core",),
    ("cluster",),
    ("dataset",),
    ("nets", "losses", "augment", "degradations", "metrics"),
    ("export",),
    ("shipped",),
    ("recipes",),
    ("preprocessing",),
    ("loading",),
    ("tracking",),
    ("training",),
    ("scoring", "importing"),
    ("evaluation",),
    ("enlarging",),
    ("cli",),
    ("__main__",),
)
# What a room must not import although it lies below, and packages that a room must know nothing of.
BARRED = {
    "core": ("pyspark", "mlflow", "torch.distributed"),
    "dataset": ("pyspark", "mlflow", "torch"),
    "nets": ("pyspark", "mlflow", "fsspec", "torch.distributed", "gan_lib.core.storage"),
    "losses": ("pyspark", "mlflow", "fsspec", "torch.distributed", "gan_lib.core.storage"),
    "augment": ("pyspark", "mlflow", "fsspec", "torch.distributed", "gan_lib.core.storage"),
    "degradations": ("pyspark", "mlflow", "fsspec", "torch.distributed", "gan_lib.core.storage"),
    "recipes": ("pyspark", "mlflow", "fsspec", "torch.distributed", "gan_lib.core.storage", "gan_lib.cluster"),
    "loading": ("pyspark", "mlflow", "gan_lib.preprocessing", "gan_lib.cluster"),
    "training": ("pyspark.sql", "gan_lib.preprocessing", "gan_lib.tracking"),
    "scoring": ("gan_lib.training", "gan_lib.loading", "gan_lib.preprocessing"),
    "evaluation": ("gan_lib.training",),
    "enlarging": ("pyspark", "mlflow", "gan_lib.cluster"),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imports_of(path: Path, for_types: bool = True) -> Iterator[tuple[str, int]]:
    """(module or package, line) of every import, those within functions too; ``for_types``: those for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_types: set[int] = set()
    if not for_types:
        guarded = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
        of_types = {id(node) for block in guarded for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in of_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in MODULES else node.module), node.lineno


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "gan_lib" and len(parts) > 1 else None


def test_no_room_imports_from_a_floor_above_it():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    offences = []
    for module, path in MODULES.items():
        own = room_of(module)
        for imported, line in imports_of(path):
            room = room_of(imported)
            if own and room and floor[room] > floor[own]:
                offences.append(f"{module}:{line} imports {imported}, which lies above")
    assert not offences, report(offences)


def test_no_room_knows_of_what_it_is_barred_from():
    offences = [
        f"{module}:{line} imports {imported}"
        for module, path in MODULES.items()
        for imported, line in imports_of(path, for_types=False)
        for barred in BARRED.get(room_of(module) or "", ())
        if within(imported.replace(".", "/"), barred.replace(".", "/"))
    ]
    assert not offences, report(offences)


def test_no_modules_import_each_other_in_a_circle():
    edges: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        edges[module] = {name for name, _ in imports_of(path, for_types=False) if name in MODULES} - {module}
    circles = []
    for start in edges:
        seen, trail = set(), [(start, (start,))]
        while trail:
            module, path_there = trail.pop()
            for following in edges[module]:
                if following == start and start == min(path_there):
                    circles.append(" -> ".join([*path_there, start]))
                elif following not in seen and following != start:
                    seen.add(following)
                    trail.append((following, (*path_there, following)))
    assert not circles, report(circles)


# A shelf and no room: one paper, one file, found by its name.
SHELF = ROOT / "gan_lib" / "recipes"


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in SOURCES} - {SHELF}), ids=lambda room: str(room.relative_to(ROOT))
)
def test_a_room_has_at_most_thirteen_modules_at_one_level(room: Path):
    modules = [path.name for path in room.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 13, f"{len(modules)} modules: {', '.join(sorted(modules))}"


def test_no_room_is_called_by_a_name_that_says_nothing():
    empty = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert not [str(path) for path in SOURCES if path.stem in empty or path.parent.name in empty]
