"""Which norm a published generator has: its tensors tell, but for how batch norm is meant to be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gan_lib.importing.formats.format import Tensors
from gan_lib.importing.reading import PublishedFileError
from gan_lib.importing.settings import ChoiceSettings

_TRAINED = ("weight", "bias")
_STATISTICS = ("running_mean", "running_var")
COUNTER = "num_batches_tracked"
"""The end of the key of batch norm's counter: of torch 0.4.1 and later, and read by training alone."""

INSTANCE, RUNNING, OWN = "instance", "running", "own"
"""Instance norm, which has no weights; batch norm by its running statistics; batch norm by each image's own."""


def norm_of(tensors: Tensors, norms: Iterable[str], choices: ChoiceSettings) -> str:
    """:data:`INSTANCE`, :data:`RUNNING` or :data:`OWN`; ``norms`` are the keys of the file's norms, less their ends.

    Raises:
        PublishedFileError: it is batch norm, and nobody said how it is meant.
    """
    if not any(f"{norm}.weight" in tensors for norm in norms):
        return INSTANCE
    if choices.batch_norm is None:
        raise PublishedFileError(
            "it has batch norm, and does not tell how it is meant to be used: set choices.batch_norm to running (the "
            "statistics of its training, as the public test script with --eval) or to own (those of each image, as "
            "without it)"
        )
    return choices.batch_norm


def names_of_norms(norm: str, tensors: Tensors, pairs: Mapping[str, str]) -> tuple[dict[str, str], frozenset[str]]:
    """Keys of our norms -> keys in the file, and the keys there that are not needed; ``pairs`` are their names.

    Instance norm kept running statistics before torch 0.4, which the public scripts throw away as well.
    """
    kept = {INSTANCE: (), RUNNING: (*_TRAINED, *_STATISTICS), OWN: _TRAINED}[norm]
    names = {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in pairs.items() for part in kept}
    counters = {f"{ours}.{COUNTER}": f"{theirs}.{COUNTER}" for ours, theirs in pairs.items()}
    if norm == RUNNING:
        names |= {ours: theirs for ours, theirs in counters.items() if theirs in tensors}
    others = {f"{theirs}.{part}" for theirs in pairs.values() for part in (*_STATISTICS, COUNTER)}
    return names, frozenset(others & tensors.keys() - set(names.values()))
