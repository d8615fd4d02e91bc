"""ProGAN: all levels allocated at the start, the fade and the batch size functions of the progress."""

import torch.nn.functional as F
from torch import nn

from gan_lib import losses
from gan_lib.core import config
from gan_lib.export.ports import Latent
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import GREY, SIDE, made_by, mlp, noise, one_each, pixels
from shapes.nets import GrowingGenerator


class Settings(config.Settings):
    latent: int = 4
    images_per_level: int = 16


class GrowingRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.settings = settings
        critic = nn.Sequential(nn.Flatten(), mlp(SIDE * SIDE, 8, 1))
        self.nets = nn.ModuleDict({"generator": GrowingGenerator(settings.latent), "critic": critic})

    def fade(self, progress):
        return min(1.0, max(0.0, progress.images / self.settings.images_per_level - 1))

    def batch_size(self, progress, configured):
        return configured if progress.images < self.settings.images_per_level else configured // 2

    def optimizers(self):
        return one_each(self.nets)

    def updates(self):
        return [Update("generator", ("generator",), self.fake_loss), Update("critic", ("critic",), self.real_loss)]

    def averages(self):
        return {"generator": Average()}

    def prepare(self, batch, seed):
        return {"real": pixels(batch), "latent": noise(batch, seed, self.settings.latent)}

    def fake_loss(self, batch, progress):
        self.nets["generator"].fade.fill_(self.fade(progress))
        return losses.logistic_g(self.nets["critic"](self.nets["generator"](batch["latent"]))), {}

    def real_loss(self, batch, progress):
        fade, real = self.fade(progress), batch["real"]
        coarse = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2.0)
        fake = self.nets["generator"](batch["latent"]).detach()
        return losses.logistic_d(self.nets["critic"](coarse.lerp(real, fade)), self.nets["critic"](fake)), {}

    def exports(self):
        net, inputs = self.nets["generator"], {"latent": Latent((self.settings.latent,))}
        return {"generator": made_by(net, inputs, {"image": GREY}, latent=self.settings.latent)}


build = GrowingRecipe
