"""SEGAN and WaveGAN: sound, by 1-d convolutions."""

from torch import nn

from gan_lib import losses
from gan_lib.export.ports import Audio, Latent
from gan_lib.recipes.protocol import Average, Recipe, Update
from gan_lib.recipes.samples import AudioSamples
from shapes.material import NoiseSettings, made_by, noise, one_each
from shapes.nets import SoundGenerator


class SoundRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.latent, self.rate, self.length = settings.latent, data["sound"].rate, data["sound"].shape[0]
        critic = nn.Sequential(nn.Conv1d(1, 4, 8, 4), nn.LeakyReLU(0.2), nn.AdaptiveAvgPool1d(1), nn.Conv1d(4, 1, 1))
        self.nets = nn.ModuleDict({"generator": SoundGenerator(self.latent, self.length), "critic": critic})

    def optimizers(self):
        return one_each(self.nets)

    def updates(self):
        return [Update("generator", ("generator",), self.fake_loss), Update("critic", ("critic",), self.real_loss)]

    def averages(self):
        return {"generator": Average()}

    def prepare(self, batch, seed):
        return {"real": batch["sound"].float() / 2**15, "latent": noise(batch, seed, self.latent)}

    def fake_loss(self, batch, progress):
        return losses.hinge_g(self.nets["critic"](self.nets["generator"](batch["latent"])[:, None])), {}

    def real_loss(self, batch, progress):
        fake = self.nets["generator"](batch["latent"]).detach()
        real, fake = (self.nets["critic"](wave[:, None]) for wave in (batch["real"], fake))
        return losses.hinge_d(real, fake), {}

    def samples(self, batch):
        return AudioSamples(self.nets["generator"](noise(batch, 0, self.latent)), self.rate)

    def exports(self):
        inputs, outputs = {"latent": Latent((self.latent,))}, {"sound": Audio(self.rate, self.length)}
        net, sizes = self.nets["generator"], {"latent": self.latent, "samples": self.length}
        return {"generator": made_by(net, inputs, outputs, **sizes)}


Settings, build = NoiseSettings, SoundRecipe
