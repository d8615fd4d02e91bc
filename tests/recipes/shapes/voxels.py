"""3D-GAN and PrGAN: voxels, by 3-d convolutions, and a critic that may look at a projection."""

from torch import nn

from gan_lib import losses
from gan_lib.export.ports import Latent, Voxels
from gan_lib.recipes.protocol import Average, Recipe, Update
from gan_lib.recipes.samples import VoxelSamples
from shapes.material import NoiseSettings, made_by, noise, one_each
from shapes.nets import VoxelGenerator


class VoxelRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.latent, self.side = settings.latent, data["voxels"].shape[0]
        solid = nn.Sequential(nn.Conv3d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.AdaptiveAvgPool3d(1), nn.Conv3d(4, 1, 1))
        flat = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 1, 1))
        self.nets = nn.ModuleDict({"generator": VoxelGenerator(self.latent, self.side), "solid": solid, "flat": flat})

    def optimizers(self):
        return one_each(self.nets)

    def updates(self):
        critics = Update("critics", ("solid", "flat"), self.real_loss)
        return [Update("generator", ("generator",), self.fake_loss), critics]

    def averages(self):
        return {"generator": Average()}

    def prepare(self, batch, seed):
        return {"real": batch["voxels"].float(), "latent": noise(batch, seed, self.latent)}

    def scores(self, voxels):
        seen = 1 - (1 - voxels).prod(dim=1)  # what a look along the first axis shows (Gadelha et al. 2017)
        return self.nets["solid"](voxels[:, None]).mean() + self.nets["flat"](seen[:, None]).mean()

    def fake_loss(self, batch, progress):
        return losses.hinge_g(self.scores(self.nets["generator"](batch["latent"]))), {}

    def real_loss(self, batch, progress):
        fake = self.nets["generator"](batch["latent"]).detach()
        return losses.hinge_d(self.scores(batch["real"]), self.scores(fake)), {}

    def samples(self, batch):
        return VoxelSamples(self.nets["generator"](noise(batch, 0, self.latent)))

    def exports(self):
        inputs, outputs = {"latent": Latent((self.latent,))}, {"voxels": Voxels(self.side)}
        net, sizes = self.nets["generator"], {"latent": self.latent, "side": self.side}
        return {"generator": made_by(net, inputs, outputs, **sizes)}


Settings, build = NoiseSettings, VoxelRecipe
