"""How recipes are found: by the name of a file, by a dotted name, by an installed package's entry point."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from gan_lib import recipes
from gan_lib.core.errors import UserError

SHELF = Path(recipes.__file__).parent
OWN = "class Settings: ...\ndef build(settings, data): ...\n"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python imports from, forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def install(packages: Path, name: str, module: str) -> None:
    """What pip leaves behind of a package with one entry point."""
    folder = packages / f"{module.replace('.', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {folder.stem[:-4]}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[gan_lib.recipes]\n{name} = {module}\n")


def test_papers_are_listed_and_what_they_share_is_not():
    papers = {path.stem for path in SHELF.glob("*.py") if re.search(r"^(def )?build\b", path.read_text(), re.MULTILINE)}
    assert recipes.names() == sorted(papers)
    assert {"cyclegan", "dcgan"} <= papers and not {"protocol", "samples", "noise_to_image"} & papers


def test_a_recipe_outside_the_package_is_found_by_its_dotted_name(packages):
    (packages / "mine").mkdir()
    (packages / "mine" / "infogan.py").write_text(OWN)
    assert recipes.find("mine.infogan").__name__ == "mine.infogan"
    assert "mine.infogan" not in recipes.names()


def test_an_installed_recipe_is_listed_and_found_by_the_name_its_package_gives_it(packages):
    (packages / "papers.py").write_text(OWN)
    install(packages, "ourgan", "papers")
    assert "ourgan" in recipes.names()
    assert recipes.find("ourgan").__name__ == "papers"
    with pytest.raises(UserError, match="did you mean ourgan"):
        recipes.find("ourgann")


def test_an_installed_recipe_does_not_take_the_place_of_our_own(packages):
    (packages / "papers.py").write_text(OWN)
    install(packages, "dcgan", "papers")
    assert recipes.find("dcgan").__name__ == "gan_lib.recipes.dcgan"


def test_an_installed_recipe_that_cannot_be_imported_is_named(packages):
    install(packages, "ourgan", "papers_that_are_gone")
    with pytest.raises(UserError, match=r"recipe 'ourgan' cannot be imported.*papers_that_are_gone"):
        recipes.find("ourgan")


def test_an_unknown_recipe_is_answered_with_those_there_are():
    with pytest.raises(UserError, match=r"no recipe 'dcgam'; did you mean dcgan\?.*cyclegan.*dcgan"):
        recipes.find("dcgam")
    with pytest.raises(UserError, match=r"'no\.such\.module' cannot be imported"):
        recipes.find("no.such.module")


@pytest.mark.parametrize("name", ["protocol", "gan_lib.losses"])
def test_a_module_that_is_no_recipe_is_refused(name):
    with pytest.raises(UserError, match="is no recipe: it has no Settings"):
        recipes.find(name)
