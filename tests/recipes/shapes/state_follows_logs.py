"""BEGAN and ADA: a balance and an adaptive strength, buffers alike on every rank, that follow the logs."""

import torch
from torch import nn

from gan_lib.core import random
from gan_lib.export.ports import Latent
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import GREY, SIDE, Buffers, NoiseSettings, made_by, mlp, noise, one_each, pixels
from shapes.nets import NoiseGenerator


class BalancedRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.latent = settings.latent
        autoencoder = nn.Sequential(nn.Flatten(), mlp(SIDE * SIDE, 8, SIDE * SIDE), nn.Unflatten(1, (1, SIDE, SIDE)))
        self.nets = nn.ModuleDict({"generator": NoiseGenerator(self.latent), "autoencoder": autoencoder})
        self.state["balance"] = Buffers(k=0.0, strength=0.0)

    def optimizers(self):
        return one_each(self.nets)

    def updates(self):
        judge = Update("autoencoder", ("autoencoder",), self.autoencoder_loss, after=self.follow)
        return [judge, Update("generator", ("generator",), self.generator_loss)]

    def averages(self):
        return {"generator": Average()}

    def prepare(self, batch, seed):
        bright = random.random_uniform(seed, "brightness", batch["position"], 1).view(-1, 1, 1, 1) - 0.5
        real = pixels(batch) + self.state["balance"].strength * bright
        return {"real": real, "latent": noise(batch, seed, self.latent)}

    def error(self, images):
        return (self.nets["autoencoder"](images) - images).abs().mean()

    def autoencoder_loss(self, batch, progress):
        real, fake = self.error(batch["real"]), self.error(self.nets["generator"](batch["latent"]).detach())
        return real - self.state["balance"].k * fake, {"real": real.detach(), "fake": fake.detach()}

    def generator_loss(self, batch, progress):
        return self.error(self.nets["generator"](batch["latent"])), {}

    def follow(self, logs):
        balance = self.state["balance"]
        balance.k.add_(0.01 * (0.5 * logs["real"] - logs["fake"])).clamp_(0, 1)
        balance.strength.add_(0.01 * torch.sign(logs["real"] - logs["fake"])).clamp_(0, 1)

    def exports(self):
        inputs = {"latent": Latent((self.latent,))}
        return {"generator": made_by(self.nets["generator"], inputs, {"image": GREY}, latent=self.latent)}


Settings, build = NoiseSettings, BalancedRecipe
