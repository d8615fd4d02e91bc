"""VAE and PixelCNN: no adversary; a net that is sampled from noise, and one that is sampled pixel by pixel."""

import torch
import torch.nn.functional as F
from torch import nn

from gan_lib.export.ports import Latent
from gan_lib.metrics.metric import Mean
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import GREY, SIDE, NoiseSettings, adam, made_by, mlp, noise, pixels
from shapes.nets import NoiseGenerator, PixelByPixel


class LikelihoodRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.latent = settings.latent
        encoder = nn.Sequential(nn.Flatten(), mlp(SIDE * SIDE, 2 * self.latent))
        self.nets = nn.ModuleDict(
            {"decoder": NoiseGenerator(self.latent), "encoder": encoder, "pixels": PixelByPixel()}
        )

    def optimizers(self):
        return {"vae": adam(self.nets["encoder"], self.nets["decoder"]), "pixels": adam(self.nets["pixels"])}

    def updates(self):
        return [Update("vae", ("vae",), self.bound), Update("pixels", ("pixels",), self.pixel_loss)]

    def averages(self):
        return {"decoder": Average(), "pixels": Average()}

    def prepare(self, batch, seed):
        real = torch.sign(pixels(batch) + 1e-3)
        return {"real": real, "noise": noise(batch, seed, self.latent)}

    def bound(self, batch, progress):
        mean, log_variance = self.nets["encoder"](batch["real"]).chunk(2, dim=1)
        again = self.nets["decoder"](mean + batch["noise"] * (log_variance / 2).exp())
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2
        return F.mse_loss(again, batch["real"]) + 1e-3 * divergence, {"divergence": divergence}

    def nats(self, real):
        bits = F.binary_cross_entropy_with_logits(self.nets["pixels"].logits(real), (real + 1) / 2, reduction="none")
        return bits.mean((1, 2, 3))

    def pixel_loss(self, batch, progress):
        return self.nats(batch["real"]).mean(), {}

    def metrics(self):
        return {"nats": Mean(lambda rows: self.nats(self.prepare(rows, seed=0)["real"]))}

    def exports(self):
        decoder = made_by(self.nets["decoder"], {"latent": Latent((self.latent,))}, {"image": GREY}, latent=self.latent)
        uniform = {"uniform": Latent((SIDE, SIDE), "uniform")}
        return {"decoder": decoder, "pixels": made_by(self.nets["pixels"], uniform, {"image": GREY})}


Settings, build = NoiseSettings, LikelihoodRecipe
