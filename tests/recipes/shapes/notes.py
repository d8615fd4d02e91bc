"""C-RNN-GAN and MuseGAN: notes, by recurrent nets."""

from torch import nn

from gan_lib import losses
from gan_lib.export.ports import Latent, Notes
from gan_lib.recipes.protocol import Average, Recipe, Update
from gan_lib.recipes.samples import NoteSamples
from shapes.material import NoiseSettings, made_by, mlp, noise, one_each
from shapes.nets import NoteGenerator


class LastState(nn.Module):
    def __init__(self, pitches):
        super().__init__()
        self.rnn, self.head = nn.LSTM(pitches, 8, batch_first=True), mlp(8, 1)

    def forward(self, rolls):
        return self.head(self.rnn(rolls.transpose(1, 2))[0][:, -1])


class NotesRecipe(Recipe):
    def __init__(self, settings, data):
        super().__init__()
        self.latent, (self.pitches, self.steps) = settings.latent, data["notes"].shape
        generator = NoteGenerator(self.latent, self.pitches, self.steps)
        self.nets = nn.ModuleDict({"generator": generator, "critic": LastState(self.pitches)})

    def optimizers(self):
        return one_each(self.nets)

    def updates(self):
        return [Update("generator", ("generator",), self.fake_loss), Update("critic", ("critic",), self.real_loss)]

    def averages(self):
        return {"generator": Average()}

    def prepare(self, batch, seed):
        return {"real": batch["notes"].float(), "latent": noise(batch, seed, self.latent)}

    def fake_loss(self, batch, progress):
        return losses.least_squares_g(self.nets["critic"](self.nets["generator"](batch["latent"]))), {}

    def real_loss(self, batch, progress):
        fake = self.nets["generator"](batch["latent"]).detach()
        return losses.least_squares_d(self.nets["critic"](batch["real"]), self.nets["critic"](fake)), {}

    def samples(self, batch):
        return NoteSamples(self.nets["generator"](noise(batch, 0, self.latent)))

    def exports(self):
        sizes = {"latent": self.latent, "pitches": self.pitches, "steps": self.steps}
        outputs = {"notes": Notes(self.pitches, self.steps)}
        return {"generator": made_by(self.nets["generator"], {"latent": Latent((self.latent,))}, outputs, **sizes)}


Settings, build = NoiseSettings, NotesRecipe
