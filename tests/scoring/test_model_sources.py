"""A model is found in the registry, among the shipped nets or in a folder; and between two there are others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from scoring_nets import URI, artifact_of, enlarger

from gan_lib.core.errors import UserError
from gan_lib.core.stores.commit_record import write_commit_record
from gan_lib.export.artifact import Artifact
from gan_lib.export.interpolation import interpolate
from gan_lib.nets.srresnet import SRResNet
from gan_lib.scoring.model_cache import digest_of
from gan_lib.scoring.model_sources import find_model
from gan_lib.scoring.settings import InterpolationSettings, ScoreSettings
from gan_lib.shipped import nets
from gan_lib.tracking import TrackingSettings


@pytest.fixture
def shifted(tmp_path: Path) -> Artifact:
    """:func:`scoring_nets.enlarger` with other weights, in the folder ``shifted``; that itself is in ``net``."""
    artifact = enlarger()
    for value in artifact.net.state_dict().values():
        value.mul_(-0.5).add_(0.125)
    artifact.save(tmp_path / "shifted")
    enlarger().save(tmp_path / "net")
    return artifact


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose folders are the shipped nets."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(nets, "_root", lambda: folder)
    return folder


def between(folder: Path, alpha: float) -> InterpolationSettings:
    return InterpolationSettings(model=str(folder), alpha=alpha)


def test_a_model_may_lie_in_a_trainings_checkpoint_folder(tmp_path: Path):
    enlarger().save(tmp_path / "training" / "export" / "generator")
    write_commit_record(str(tmp_path / "training" / "export" / "exports.json"), {"artifacts": ["generator"]})
    found = [find_model(str(tmp_path / name)) for name in ("training", "training/export", "training/export/generator")]
    assert len({digest_of(one.files) for one in found}) == 1
    assert {one.uri for one in found} == {str(tmp_path / "training" / "export" / "generator")}
    with pytest.raises(UserError, match=r"no model .*absent: write models:/NAME@ALIAS.*shipped:NAME"):
        find_model(str(tmp_path / "absent"))


def test_a_registered_model_is_found_in_the_version_that_its_alias_means(registry: TrackingSettings):
    found = find_model(URI, registry)
    assert (found.name, found.version, found.uri) == ("small_enlarger", "1", "models:/small_enlarger/1")
    assert found.run_id and found.load().scale == 4


def test_an_unknown_shipped_net_is_refused_with_those_that_there_are(ship: Path):
    with pytest.raises(UserError, match=r"'enlarger-gan' is shipped; there are: none"):
        find_model("shipped:enlarger-gan")
    for name in ("plain", "sharp"):
        enlarger().save(ship / name)
    (ship / "__pycache__").mkdir()
    found = find_model("shipped:sharp")
    assert (found.name, found.uri) == ("sharp", "shipped:sharp") and found.version in digest_of(found.files)
    for name in ("enlarger-gan", "", "../sharp", "__pycache__"):
        with pytest.raises(UserError, match="is shipped; there are: plain, sharp"):
            find_model(f"shipped:{name}")


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.8, 1.0])
def test_weights_between_two_nets_are_their_mean_weighed_by_alpha(shifted: Artifact, tmp_path: Path, alpha: float):
    found = find_model(str(tmp_path / "net"), interpolation=between(tmp_path / "shifted", alpha))
    one, two, mixed = (artifact.net.state_dict() for artifact in (enlarger(), shifted, found.load()))
    for name, weights in mixed.items():
        exact = alpha * one[name].double() + (1 - alpha) * two[name].double()
        assert torch.equal(weights, exact.float()), name
    if alpha in (0, 1):
        assert all(map(torch.equal, mixed.values(), (one if alpha else two).values()))


def test_what_is_counted_in_whole_numbers_is_the_models_own():
    from scoring_nets import TRUSTED, LateUpsampler

    model, other = (artifact_of(LateUpsampler, scale=4) for _ in range(2))
    for artifact, count in ((model, 3), (other, 8)):
        artifact.net.state_dict()["layers.3.num_batches_tracked"].fill_(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_LIB_TRUSTED_PACKAGES", TRUSTED[-1])
        mixed = interpolate(model, other, 0.5).net.state_dict()
    assert mixed["layers.3.num_batches_tracked"] == 3


def test_nets_of_two_architectures_are_refused_in_a_sentence(shifted: Artifact, tmp_path: Path):
    artifact_of(SRResNet, scale=4, base_channels=8, blocks=3).save(tmp_path / "deeper")
    with pytest.raises(
        UserError, match=r"net and .*deeper cannot be interpolated\. One is SRResNet\(.*blocks=2.*blocks=3"
    ):
        find_model(str(tmp_path / "net"), interpolation=between(tmp_path / "deeper", 0.5))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_lies_between_nothing_and_all(alpha: float):
    with pytest.raises(ValidationError, match="alpha"):
        InterpolationSettings(model="shipped:enlarger-pixels", alpha=alpha)


def test_the_interpolation_shows_in_the_version_the_weights_and_the_settings_digest(shifted: Artifact, tmp_path: Path):
    model, other = str(tmp_path / "net"), between(tmp_path / "shifted", 0.8)
    found, alone = find_model(model, interpolation=other), find_model(model)
    assert found.version == f"0.8 x  + 0.2 x {tmp_path}/shifted" and found.name == alone.name
    assert digest_of(found.files) != digest_of(alone.files)
    settings = {"model": model, "input": {"folder": "in"}, "output": {"url": "out"}}
    digests = [ScoreSettings.model_validate({**settings, **more}).digest() for more in ({}, {"interpolation": other})]
    assert digests[0] == "1293b4e1e160" and digests[1] != digests[0], (
        "results of before there was such a setting are kept"
    )
