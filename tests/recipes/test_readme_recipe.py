"""The recipe that the README shows is whole: found by its dotted name, it learns, and its generator leaves."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

from gan_lib import recipes
from gan_lib.core.progress import Progress
from gan_lib.dataset.info import DatasetInfo, FieldInfo
from gan_lib.export.artifact import Artifact
from gan_lib.recipes.protocol import Recipe

SIDE = 16


def lines_in(repository: Path) -> str:
    found = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in found if "(Recipe)" in block]
    return block


@pytest.fixture
def recipe(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    package = tmp_path / "readme_papers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "lsgan.py").write_text(lines_in(repository))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    module = recipes.find("readme_papers.lsgan")
    torch.manual_seed(0)
    data = DatasetInfo(64, {"image": FieldInfo((SIDE, SIDE, 3), "uint8", "png")})
    yield module.build(module.Settings(latent=8), data)
    for name in [name for name in sys.modules if name.startswith("readme_papers")]:
        del sys.modules[name]


def test_the_readmes_recipe_takes_under_forty_lines(repository: Path):
    assert len(lines_in(repository).splitlines()) < 40


def test_the_readmes_recipe_learns(recipe: Recipe):
    optimizers = recipe.optimizers()
    rows = {"image": torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8), "position": torch.arange(4)}
    before = {name: value.clone() for name, value in recipe.nets.state_dict().items()}
    batch = recipe.prepare(rows, seed=1)
    assert torch.equal(batch["latent"], recipe.prepare(rows, seed=1)["latent"])
    for update in recipe.updates():
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        loss, _ = update.loss(batch, Progress(0, 0))
        loss.backward()
        for name in update.optimizers:
            optimizers[name].step()
    moved = {
        name.split(".")[0] for name, value in recipe.nets.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"g", "d"}


def test_the_readmes_generator_leaves_and_comes_back(recipe: Recipe, tmp_path: Path):
    recipe.nets.eval()
    ((name, artifact),) = recipe.exports().items()
    artifact.save(tmp_path / name)
    latent = torch.randn(2, 8)
    images = Artifact.load(tmp_path / name).run({"latent": latent})["image"]
    assert images.shape == (2, 3, SIDE, SIDE)
    assert torch.allclose(images, artifact.net(latent))
