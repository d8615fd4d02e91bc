"""What leaves a training: the translator folder, or bare weights of a generator that translates no pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import safetensors.torch

from gan_lib.core import storage
from gan_lib.recipes.protocol import Recipe


def export(recipe: Recipe, url: str) -> None:
    """Write the recipe's translator to the folder ``url``; without one, ``NET.safetensors`` for each averaged net.

    The nets are taken as they are: put the averages in place first.
    """
    translator = recipe.translator()
    with tempfile.TemporaryDirectory() as folder:
        if translator is not None:
            translator.save(folder)
        else:
            _save_weights(recipe, Path(folder))
        for file in sorted(Path(folder).iterdir()):
            storage.write_atomic(storage.join(url, file.name), file.read_bytes())


def _save_weights(recipe: Recipe, folder: Path) -> None:
    for name in recipe.ema:
        weights = {key: t.detach().cpu().contiguous() for key, t in recipe.nets[name].state_dict().items()}
        safetensors.torch.save_file(weights, str(folder / f"{name}.safetensors"))
