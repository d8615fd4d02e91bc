"""CGAN, InfoGAN, AC-GAN, SSGAN: labels whose number the dataset tells, a trunk of two nets, rows without a label."""

import torch
import torch.nn.functional as F
from torch import nn

from gan_lib import losses
from gan_lib.export.ports import Label, Latent
from gan_lib.recipes.protocol import Average, Recipe, Update
from shapes.material import GREY, SIDE, NoiseSettings, adam, made_by, mlp, noise, pixels
from shapes.nets import LabelledGenerator


class LabelsRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.latent, self.classes = settings.latent, data.num_classes("label")
        trunk, generator = mlp(SIDE * SIDE, 8), LabelledGenerator(self.latent, self.classes)
        critic = nn.Sequential(nn.Flatten(), trunk, nn.Linear(8, 1))
        classifier = nn.Sequential(nn.Flatten(), trunk, nn.Linear(8, self.classes))
        self.nets = nn.ModuleDict({"generator": generator, "critic": critic, "classifier": classifier})

    def optimizers(self):
        nets = self.nets
        return {"generator": adam(nets["generator"]), "judging": adam(nets["critic"], nets["classifier"])}

    def updates(self):
        return [Update("fake", ("generator",), self.fake_loss), Update("real", ("judging",), self.real_loss)]

    def averages(self):
        return {"generator": Average()}

    def prepare(self, batch, seed):
        known = torch.where(batch["position"] % 2 == 0, batch["label"], -1)  # half of the rows keep their labels
        latent = noise(batch, seed, self.latent)
        return {"real": pixels(batch), "known": known, "label": batch["label"], "latent": latent}

    def fake_loss(self, batch, progress):
        fake = self.nets["generator"](batch["latent"], batch["label"])
        seen = F.cross_entropy(self.nets["classifier"](fake), batch["label"])
        return losses.logistic_g(self.nets["critic"](fake)) + seen, {"seen": seen}

    def real_loss(self, batch, progress):
        fake = self.nets["generator"](batch["latent"], batch["label"]).detach()
        known = F.cross_entropy(self.nets["classifier"](batch["real"]), batch["known"], ignore_index=-1)
        return losses.logistic_d(self.nets["critic"](batch["real"]), self.nets["critic"](fake)) + known, {}

    def exports(self):
        inputs = {"latent": Latent((self.latent,)), "label": Label(self.classes)}
        net, sizes = self.nets["generator"], {"latent": self.latent, "classes": self.classes}
        return {"generator": made_by(net, inputs, {"image": GREY}, **sizes)}


Settings, build = NoiseSettings, LabelsRecipe
