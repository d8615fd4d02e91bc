"""Inpainting: an image and a mask."""

import torch
import torch.nn.functional as F
from torch import nn

from gan_lib.core import config, random
from gan_lib.export.ports import Mask
from gan_lib.metrics.metric import Mean
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import RGB, adam, pixels, translated_by
from shapes.nets import Inpainter


class Settings(config.Settings):
    hole: int = 6


class InpaintingRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.hole = settings.hole
        self.nets = nn.ModuleDict({"generator": Inpainter()})

    def optimizers(self):
        return {"generator": adam(self.nets["generator"])}

    def updates(self):
        return [Update("pixel", ("generator",), self.pixel_loss)]

    def averages(self):
        return {"generator": Average()}

    def prepare(self, batch, seed):
        image, side = pixels(batch), batch["image"].shape[-1]
        corner = random.random_uniform(seed, "hole", batch["position"], 2) * (side - self.hole)  # (B, 2)
        line = torch.arange(side, device=image.device)
        inside = (line >= corner[:, :, None]) & (line < corner[:, :, None] + self.hole)  # (B, 2, side)
        mask = (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None].float()
        return {"image": image, "mask": mask}

    def pixel_loss(self, batch, progress):
        return F.l1_loss(self.nets["generator"](batch["image"], batch["mask"]), batch["image"]), {}

    def metrics(self):
        def error(rows):
            batch = self.prepare(rows, seed=0)
            return (self.nets["generator"](batch["image"], batch["mask"]) - batch["image"]).abs().mean((1, 2, 3))

        return {"error": Mean(error)}

    def exports(self):
        return {"generator": translated_by(self.nets["generator"], {"image": RGB, "mask": Mask()})}


build = InpaintingRecipe
