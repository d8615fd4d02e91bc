"""Neural style, DeepDream, FGSM: a frozen net is asked, and what is added to its input is what learns."""

import torch
from torch import nn
from torch.optim import SGD

from gan_lib.core import config
from gan_lib.recipes.protocol import Recipe, Update
from gan_lib.recipes.samples import ImageSamples
from shapes.material import RGB, conv, pixels, translated_by
from shapes.nets import Perturbation


class Settings(config.Settings):
    rate: float = 0.1


class OptimisedInputRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.rate = settings.rate
        self.nets = nn.ModuleDict({"perturbation": Perturbation(), "nothing": nn.Identity()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # where a paper reads published weights
            self.frozen["classifier"] = nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def optimizers(self):
        return {"perturbation": SGD(self.nets["perturbation"].parameters(), lr=self.rate, momentum=0.9)}

    def updates(self):
        return [Update("attack", ("perturbation",), self.certainty)]

    def prepare(self, batch, seed):
        return {"image": pixels(batch)}

    def certainty(self, batch, progress):
        classes = self.frozen["classifier"](self.nets["perturbation"](batch["image"])).softmax(1)
        return classes[:, 0].mean(), {}

    def samples(self, batch):
        return ImageSamples(self.nets["perturbation"](pixels(batch)))

    def exports(self):
        return {"perturbation": translated_by(self.nets["perturbation"], {"image": RGB}, halo=0)}


build = OptimisedInputRecipe
