"""SeqGAN: tokens, a pretraining stage, a rollout policy that lags, rewards in a loss."""

import copy

import torch
from torch import nn

from gan_lib import losses
from gan_lib.core import config, random
from gan_lib.export.ports import Latent, Tokens
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import from_image, lag, made_by, one_each, padded
from shapes.nets import TextGenerator, TokenCritic


class Settings(config.Settings):
    length: int = 4
    pretrain_images: int = 8


class TextRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.settings, self.words = settings, data["tokens"].vocabulary
        self.sizes = {"vocabulary": len(self.words), "length": settings.length}
        self.nets = nn.ModuleDict({"generator": TextGenerator(**self.sizes), "critic": TokenCritic(**self.sizes)})
        self.state["policy"] = copy.deepcopy(self.nets["generator"])

    def optimizers(self):
        return one_each(self.nets)

    def updates(self):
        late = from_image(self.settings.pretrain_images)
        play = Update("play", ("generator",), self.reward_loss, when=late, after=self.follow)
        return [Update("read", ("generator",), self.likelihood), Update("critic", ("critic",), self.real_loss), play]

    def averages(self):
        return {"generator": Average()}

    def collate(self, rows):
        return {"tokens": padded(rows["tokens"], self.settings.length), "position": rows["position"]}

    def prepare(self, batch, seed):
        return {**batch, "uniform": random.random_uniform(seed, "words", batch["position"], self.settings.length)}

    def likelihood(self, batch, progress):
        return -self.nets["generator"].log_likelihood(batch["tokens"]).mean(), {}

    def real_loss(self, batch, progress):
        real, fake = map(self.nets["critic"], (batch["tokens"], self.nets["generator"](batch["uniform"])))
        return losses.logistic_d(real, fake), {}

    def reward_loss(self, batch, progress):
        with torch.no_grad():
            played = self.state["policy"](batch["uniform"])
            reward = torch.sigmoid(self.nets["critic"](played))
        return -(self.nets["generator"].log_likelihood(played) * reward).mean(), {"reward": reward.mean()}

    def follow(self, logs):
        lag(self.state["policy"], self.nets["generator"], 0.2)

    def exports(self):
        inputs = {"uniform": Latent((self.settings.length,), "uniform")}
        outputs = {"text": Tokens(self.words, self.settings.length)}
        return {"generator": made_by(self.nets["generator"], inputs, outputs, **self.sizes)}


build = TextRecipe
