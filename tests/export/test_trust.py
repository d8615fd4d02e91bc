"""No net is built but from a package that someone here named."""

from __future__ import annotations

import pytest

from gan_lib.export.architecture import Architecture
from gan_lib.export.errors import ArtifactError
from gan_lib.export.trust import VARIABLE, is_trusted, trusted_packages


@pytest.fixture(autouse=True)
def no_packages_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_only_this_packages_nets_are_trusted_unless_told() -> None:
    assert trusted_packages() == ("gan_lib.nets",)


def test_the_environment_and_the_settings_add_to_them_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, " ours.nets, , theirs")
    assert trusted_packages(("theirs", "mine")) == ("gan_lib.nets", "ours.nets", "theirs", "mine")


def test_a_package_is_trusted_with_all_within_it_and_nothing_that_only_begins_like_it() -> None:
    assert is_trusted("ours", ["ours"]) and is_trusted("ours.nets.deep", ["ours"])
    assert not is_trusted("ours_too", ["ours"]) and not is_trusted("os", [""])


def test_a_net_outside_is_not_even_imported() -> None:
    with pytest.raises(ArtifactError, match=r"outside the trusted packages .*GAN_LIB_TRUSTED_PACKAGES"):
        Architecture("this", "Zen", {}).build()


def test_the_environment_opens_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "torch.nn")
    assert Architecture("torch.nn", "Identity").build()(3) == 3
