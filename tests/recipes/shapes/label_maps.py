"""pix2pix, pix2pixHD, SPADE: label maps of n classes as input, a list of conditional discriminators."""

import torch
import torch.nn.functional as F
from torch import nn

from gan_lib import losses
from gan_lib.core import config
from gan_lib.export.architecture import Architecture
from gan_lib.export.artifact import Artifact, Tiling
from gan_lib.export.ports import LabelMap
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import RGB, conv, one_each, pixels
from shapes.nets import LabelMapGenerator


class Settings(config.Settings):
    discriminators: int = 2


class LabelMapsRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.classes = data.num_classes("input")
        judges = nn.ModuleList(conv(self.classes + 3, 1) for _ in range(settings.discriminators))
        self.nets = nn.ModuleDict({"generator": LabelMapGenerator(self.classes), "discriminators": judges})

    def optimizers(self):
        return one_each(self.nets)

    def updates(self):
        return [Update("fake", ("generator",), self.fake_loss), Update("real", ("discriminators",), self.real_loss)]

    def averages(self):
        return {"generator": Average()}

    def prepare(self, batch, seed):
        return {"labels": batch["input"][:, 0].long(), "real": pixels(batch, "target")}

    def scores(self, batch, images):
        shown = torch.cat([F.one_hot(batch["labels"], self.classes).movedim(-1, 1).float(), images], 1)
        halves = (F.avg_pool2d(shown, 2**level) for level in range(len(self.nets["discriminators"])))
        return [judge(half) for judge, half in zip(self.nets["discriminators"], halves, strict=True)]

    def fake_loss(self, batch, progress):
        fake = self.nets["generator"](batch["labels"])
        return sum(map(losses.hinge_g, self.scores(batch, fake))) + F.l1_loss(fake, batch["real"]), {}

    def real_loss(self, batch, progress):
        fake = self.nets["generator"](batch["labels"]).detach()
        pairs = zip(self.scores(batch, batch["real"]), self.scores(batch, fake), strict=True)
        return sum(losses.hinge_d(real, fake) for real, fake in pairs), {}

    def exports(self):
        net, inputs = self.nets["generator"], {"labels": LabelMap(self.classes)}
        architecture = Architecture.of(LabelMapGenerator, classes=self.classes)
        return {"generator": Artifact(net, architecture, inputs, {"image": RGB}, Tiling(1, 2))}


build = LabelMapsRecipe
