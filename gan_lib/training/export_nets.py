"""What leaves a training: the artifact folder, or bare weights of a generator that translates no images."""

from __future__ import annotations

import tempfile
from pathlib import Path

import safetensors.torch

from gan_lib.core import storage
from gan_lib.recipes.protocol import Recipe


def export(recipe: Recipe, url: str) -> None:
    """Write the recipe's artifact to the folder ``url``; without one, ``NET.safetensors`` for each averaged net.

    The nets are taken as they are: put the averages in place first.
    """
    artifact = recipe.artifact()
    with tempfile.TemporaryDirectory() as folder:
        if artifact is not None:
            artifact.save(folder)
        else:
            _save_weights(recipe, Path(folder))
        for file in sorted(Path(folder).iterdir()):
            storage.write_atomic(storage.join(url, file.name), file.read_bytes())


def _save_weights(recipe: Recipe, folder: Path) -> None:
    for name in recipe.ema:
        weights = {key: t.detach().cpu().contiguous() for key, t in recipe.nets[name].state_dict().items()}
        safetensors.torch.save_file(weights, str(folder / f"{name}.safetensors"))
