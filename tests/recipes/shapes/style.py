"""StyleGAN2: lazy penalties, a running mean that ranks share, mixing, several averages."""

import torch
from torch import nn

from gan_lib import losses
from gan_lib.core import random
from gan_lib.export.ports import Latent
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import GREY, SIDE, Buffers, NoiseSettings, made_by, mlp, noise, one_each, pixels
from shapes.nets import StyledGenerator


class StyleRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.latent = settings.latent
        critic = nn.Sequential(nn.Flatten(), mlp(SIDE * SIDE, 8, 1))
        self.nets = nn.ModuleDict({"generator": StyledGenerator(self.latent), "critic": critic})
        self.state["path_length"] = Buffers(mean=0.0)

    def optimizers(self):
        return one_each(self.nets)

    def updates(self):
        path = Update("path", ("generator",), self.path, every=2, after=self.follow)
        fake, real = Update("fake", ("generator",), self.fake_loss), Update("real", ("critic",), self.real_loss)
        return [fake, real, path, Update("r1", ("critic",), self.r1, every=2)]

    def averages(self):
        return {"generator": Average(), "slow": Average("generator", half_life=1_000, ramp=None)}

    def prepare(self, batch, seed):
        mixed = random.random_uniform(seed, "mix", batch["position"], 1) < 0.5
        latents = (noise(batch, seed, self.latent, stream) for stream in ("first", "second"))
        return {"real": pixels(batch), "latent": torch.where(mixed, *latents)}

    def fake_loss(self, batch, progress):
        return losses.logistic_g(self.nets["critic"](self.nets["generator"](batch["latent"]))), {}

    def real_loss(self, batch, progress):
        fake = self.nets["generator"](batch["latent"]).detach()
        return losses.logistic_d(self.nets["critic"](batch["real"]), self.nets["critic"](fake)), {}

    def r1(self, batch, progress):
        return losses.r1_penalty(self.nets["critic"], batch["real"]), {}

    def path(self, batch, progress):
        generator, style = self.nets["generator"], self.nets["generator"].mapping(batch["latent"])
        image = generator.synthesise(style)
        lengths = torch.autograd.grad(image.sum() / SIDE, style, create_graph=True)[0].norm(dim=1)
        return (lengths - self.state["path_length"].mean).square().mean(), {"length": lengths.detach().mean()}

    def follow(self, logs):
        self.state["path_length"].mean.lerp_(logs["length"], 0.1)

    def exports(self):
        inputs = {"latent": Latent((self.latent,))}
        return {"generator": made_by(self.nets["generator"], inputs, {"image": GREY}, latent=self.latent)}


Settings, build = NoiseSettings, StyleRecipe
