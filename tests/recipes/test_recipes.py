"""What recipes do with data, and the figures they measure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from gan_lib import recipes
from gan_lib.core.errors import UserError
from gan_lib.metrics.fidelity import psnr
from gan_lib.nets.srresnet import enlarge_bicubic
from gan_lib.nets.vgg import VGGFeatures
from gan_lib.recipes import cyclegan, dcgan, srgan, srresnet, wgan_gp
from gan_lib.recipes.protocol import Progress


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[100:196, 100:196])


def rows_of(*images: np.ndarray) -> dict[str, torch.Tensor]:
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return {"image": batch, "domain_b_image": batch.flip(0), "position": torch.arange(len(images))}


def test_the_measured_psnr_is_that_of_the_published_protocol(photo):
    batch = srresnet.pair(torch.from_numpy(photo).permute(2, 0, 1)[None], 4)
    prediction = enlarge_bicubic(batch["low"], 4)
    measured = srresnet.luma_psnr(batch["high"], prediction, border=4).item()
    levels = ((prediction.clamp(-1, 1) + 1) * 127.5).round().byte()[0].permute(1, 2, 0).numpy()
    assert measured == pytest.approx(psnr(photo, levels, border=4), abs=1e-3)


def test_the_low_half_of_a_pair_is_what_pillow_makes(photo):
    low = srresnet.pair(torch.from_numpy(photo).permute(2, 0, 1)[None], 4)["low"]
    expected = np.asarray(Image.fromarray(photo).resize((24, 24), Image.Resampling.BICUBIC)).astype(float)
    found = (low[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(found - expected).max() < 1.01  # Pillow sums in fixed point
    assert np.abs(found - expected).mean() < 0.05


def test_what_a_sample_becomes_depends_on_its_position_and_not_on_its_batch(photo):
    recipe = srresnet.build(srresnet.Settings(base_channels=4, blocks=1, crop=48))
    rows = rows_of(*[photo] * 6)
    together = recipe.prepare(rows, seed=1)["high"]
    alone = recipe.prepare({key: value[4:5] for key, value in rows.items()}, seed=1)["high"]
    assert torch.equal(together[4:5], alone)
    assert not torch.equal(together[3], together[4])


def test_wgan_gps_generator_learns_in_every_fifth_step():
    recipe = wgan_gp.build(wgan_gp.Settings(size=8, base_channels=4, latent=4))
    critic, generator = recipe.updates()
    assert [step for step in range(12) if generator.is_due(Progress(0, step))] == [4, 9]
    assert all(critic.is_due(Progress(0, step)) for step in range(12))


def test_a_generators_loss_moves_no_other_net(photo):
    recipe = srgan.build(
        srgan.Settings(base_channels=4, blocks=1, discriminator_base_channels=4, discriminator_num_downsamples=1)
    )
    batch = recipe.prepare(rows_of(photo), seed=0)
    loss, _ = recipe.generator_loss(batch, Progress())
    loss.backward()
    assert all(p.grad is not None for p in recipe.nets["generator"].parameters())
    assert not batch["fake"].requires_grad


def test_grey_images_become_coloured_for_cyclegan():
    recipe = cyclegan.build(cyclegan.Settings(size=32, base_channels=4, blocks=1, pool=2))
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    batch = recipe.prepare({"image": grey, "domain_b_image": grey, "position": torch.arange(2)}, seed=0)
    assert batch["a"].shape == batch["b"].shape == (2, 3, 32, 32)


def test_grey_images_become_coloured_for_dcgan_and_no_colour_is_dropped():
    recipe = dcgan.build(dcgan.Settings(size=16, base_channels=4))
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    assert recipe.prepare({"image": grey, "position": torch.arange(2)}, seed=0)["real"].shape == (2, 3, 16, 16)
    recipe = dcgan.build(dcgan.Settings(size=16, base_channels=4, channels=1))
    with pytest.raises(UserError, match=r"set recipe\.channels to 3"):
        recipe.prepare({"image": grey.expand(-1, 3, -1, -1), "position": torch.arange(2)}, seed=0)


def test_cyclegan_cuts_squares_from_random_places_of_larger_images():
    recipe = cyclegan.build(cyclegan.Settings(size=32, enlarge=1.5, base_channels=4, blocks=1, pool=2))
    across = torch.arange(48, dtype=torch.uint8).expand(8, 3, 48, 48)
    batch = recipe.prepare({"image": across, "domain_b_image": across, "position": torch.arange(8)}, seed=0)
    levels = ((batch["a"][:, 0, 0] + 1) * 127.5).round()
    assert batch["a"].shape == (8, 3, 32, 32)
    assert torch.equal(levels.diff(dim=1).abs(), torch.ones(8, 31))  # cut, not squeezed
    assert len(levels.amin(dim=1).unique()) > 1  # at several places


def test_images_are_resized_into_the_range_that_nets_see():
    values = dcgan.resized(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 8), 16)
    torch.testing.assert_close(values[0], torch.full((3, 16, 16), -1.0))
    torch.testing.assert_close(values[1], torch.full((3, 16, 16), 1.0))


def test_srgan_compares_vgg_features_where_weights_are_configured(photo, tmp_path):
    torch.manual_seed(0)
    torch.save(VGGFeatures().state_dict(), tmp_path / "vgg19.pth")
    settings = {"base_channels": 4, "blocks": 1, "discriminator_base_channels": 4, "discriminator_num_downsamples": 1}
    recipe = srgan.build(srgan.Settings(**settings, vgg=str(tmp_path / "vgg19.pth")))
    batch = recipe.prepare(rows_of(photo[:64, :64]), seed=0)
    _, logs = recipe.generator_loss(batch, Progress())
    with torch.no_grad():
        target, fake = (recipe.frozen["vgg"](batch[name]) for name in ("high", "fake"))
    torch.testing.assert_close(logs["perceptual"], (target - fake).square().mean(), rtol=1e-3, atol=1e-7)
    assert "vgg" not in recipe.nets


def test_vgg_weights_that_are_none_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        srgan.read_vgg(str(tmp_path / "missing.pth"))
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold the weights of vgg19"):
        srgan.read_vgg(str(tmp_path / "other.pth"))


def test_an_unknown_recipe_is_answered_with_those_there_are():
    with pytest.raises(UserError, match=r"no recipe 'dcgam'; did you mean dcgan\?.*cyclegan, dcgan"):
        recipes.find("dcgam")
