"""BicycleGAN, AdaIN, Age-cGAN: an image and a vector, or two images, into one generator; several exports."""

import torch.nn.functional as F
from torch import nn

from gan_lib.core import config
from gan_lib.export.ports import Vector
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import RGB, adam, noise, pixels, translated_by
from shapes.nets import StyleOfImage, StyleTransfer


class Settings(config.Settings):
    style: int = 3


class TwoInputsRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.style = settings.style
        encoder = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, self.style))
        nets = {"by_vector": StyleTransfer(self.style), "by_image": StyleOfImage(), "encoder": encoder}
        self.nets = nn.ModuleDict(nets)

    def optimizers(self):
        return {
            "by_vector": adam(self.nets["by_vector"], self.nets["encoder"]),
            "by_image": adam(self.nets["by_image"]),
        }

    def updates(self):
        by_vector = Update("by_vector", ("by_vector",), self.vector_loss)
        return [by_vector, Update("by_image", ("by_image",), self.image_loss)]

    def averages(self):
        return {"by_vector": Average(half_life=100), "by_image": Average(half_life=10, ramp=None)}

    def prepare(self, batch, seed):
        return {"image": pixels(batch), "other": pixels(batch).flip(0), "style": noise(batch, seed, self.style)}

    def vector_loss(self, batch, progress):
        fake = self.nets["by_vector"](batch["image"], batch["style"])
        return F.mse_loss(self.nets["encoder"](fake), batch["style"]) + F.l1_loss(fake, batch["image"]), {}

    def image_loss(self, batch, progress):
        fake = self.nets["by_image"](batch["image"], batch["other"])
        return F.mse_loss(fake.mean((2, 3)), batch["other"].mean((2, 3))) + F.l1_loss(fake, batch["image"]), {}

    def exports(self):
        vector = {"image": RGB, "style": Vector(self.style)}
        by_vector = translated_by(self.nets["by_vector"], vector, style=self.style)
        return {"by_vector": by_vector, "by_image": translated_by(self.nets["by_image"], {"image": RGB, "style": RGB})}


build = TwoInputsRecipe
