"""The nets of the tiny recipes: as small as their kind can be."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapes.material import SIDE, conv, mlp


class LabelledGenerator(nn.Module):
    """Noise (B, latent) and labels (B,) -> grey images."""

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.classes, self.body = classes, mlp(latent + classes, 16, SIDE * SIDE)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        known = F.one_hot(label, self.classes).float()
        return torch.tanh(self.body(torch.cat([latent, known], 1))).view(-1, 1, SIDE, SIDE)


class NoiseGenerator(nn.Module):
    """Noise (B, latent) -> grey images."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.body = mlp(latent, 16, SIDE * SIDE)

    def forward(self, latent: Tensor) -> Tensor:
        return torch.tanh(self.body(latent)).view(-1, 1, SIDE, SIDE)


class StyledGenerator(nn.Module):
    """A mapping and a synthesis from a learned constant, as StyleGAN has them; noise (B, latent) -> grey images."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.mapping, self.start = mlp(latent, 8, 8), nn.Parameter(torch.randn(1, 8, SIDE, SIDE))
        self.synthesis = conv(8, 1)

    def synthesise(self, style: Tensor) -> Tensor:
        return torch.tanh(self.synthesis(self.start * (1 + style[:, :, None, None])))

    def forward(self, latent: Tensor) -> Tensor:
        return self.synthesise(self.mapping(latent))


class GrowingGenerator(nn.Module):
    """Two levels from the start, the finer one as loud as it is told; noise (B, latent) -> grey images."""

    fade: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.coarse, self.fine = mlp(latent, (SIDE // 2) ** 2), conv(1, 1)
        self.register_buffer("fade", torch.zeros(()))

    def forward(self, latent: Tensor) -> Tensor:
        coarse = F.interpolate(self.coarse(latent).view(-1, 1, SIDE // 2, SIDE // 2), scale_factor=2.0)
        return torch.tanh(coarse + self.fade * self.fine(coarse))


class LabelMapGenerator(nn.Module):
    """Label maps (B, H, W) of so many classes -> RGB images."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.body = classes, conv(classes, 3)

    def forward(self, labels: Tensor) -> Tensor:
        return torch.tanh(self.body(F.one_hot(labels, self.classes).movedim(-1, 1).float()))


class StyleTransfer(nn.Module):
    """An image and a vector -> an image."""

    def __init__(self, style: int) -> None:
        super().__init__()
        self.body = conv(3 + style, 3)

    def forward(self, image: Tensor, style: Tensor) -> Tensor:
        planes = style[:, :, None, None].expand(-1, -1, *image.shape[-2:])
        return torch.tanh(self.body(torch.cat([image, planes.to(image.dtype)], 1)))


class StyleOfImage(nn.Module):
    """An image and a second one whose mean colours it takes -> an image (AdaIN in its smallest form)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = conv(6, 3)

    def forward(self, image: Tensor, style: Tensor) -> Tensor:
        mean = style.mean((2, 3), keepdim=True).expand_as(image)
        return torch.tanh(self.body(torch.cat([image, mean], 1)))


class Inpainter(nn.Module):
    """An image and the mask of what is to be filled in -> the image, filled."""

    def __init__(self) -> None:
        super().__init__()
        self.body = conv(4, 3)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image * (1 - mask) + mask * torch.tanh(self.body(torch.cat([image * (1 - mask), mask], 1)))


class TextGenerator(nn.Module):
    """Uniform numbers (B, length), one for each word -> tokens (B, length), drawn one after the other."""

    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__()
        self.length, self.embed = length, nn.Embedding(vocabulary + 1, 8)  # the last one stands for the beginning
        self.cell, self.head = nn.GRUCell(8, 8), nn.Linear(8, vocabulary)

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, length, vocabulary) before each of the tokens was known."""
        begin, state, found = torch.full_like(tokens[:, :1], self.embed.num_embeddings - 1), None, []
        for token in torch.cat([begin, tokens[:, :-1]], 1).unbind(1):
            state = self.cell(self.embed(token), state)
            found.append(self.head(state))
        return torch.stack(found, 1)

    def log_likelihood(self, tokens: Tensor) -> Tensor:
        """(B, length) logarithms of each token's probability."""
        return self.logits(tokens).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]

    def forward(self, uniform: Tensor) -> Tensor:
        state, token = None, torch.full((len(uniform),), self.embed.num_embeddings - 1, device=uniform.device)
        tokens = []
        for chance in uniform.unbind(1):
            state = self.cell(self.embed(token), state)
            below = self.head(state).double().softmax(-1).cumsum(-1) < chance.double()[:, None]
            token = below.sum(-1).clamp(max=self.head.out_features - 1)
            tokens.append(token)
        return torch.stack(tokens, 1)


class TokenCritic(nn.Module):
    """Tokens (B, length) -> scores (B, 1)."""

    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__()
        self.vocabulary, self.body = vocabulary, mlp(length * vocabulary, 8, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.body(F.one_hot(tokens, self.vocabulary).float().flatten(1))


class SoundGenerator(nn.Module):
    """Noise (B, latent) -> sound (B, samples)."""

    def __init__(self, latent: int, samples: int) -> None:
        super().__init__()
        self.samples, self.start = samples, nn.Linear(latent, 4 * samples // 8)
        self.body = nn.Sequential(nn.ConvTranspose1d(4, 4, 8, 4, 2), nn.ReLU(), nn.ConvTranspose1d(4, 1, 4, 2, 1))

    def forward(self, latent: Tensor) -> Tensor:
        return torch.tanh(self.body(self.start(latent).view(len(latent), 4, -1)))[:, 0]


class NoteGenerator(nn.Module):
    """Noise (B, latent) -> piano rolls (B, pitches, steps) by a recurrent net."""

    def __init__(self, latent: int, pitches: int, steps: int) -> None:
        super().__init__()
        self.steps, self.rnn, self.head = steps, nn.GRU(latent, 8, batch_first=True), nn.Linear(8, pitches)

    def forward(self, latent: Tensor) -> Tensor:
        states, _ = self.rnn(latent[:, None].expand(-1, self.steps, -1))
        return torch.sigmoid(self.head(states)).transpose(1, 2)


class VoxelGenerator(nn.Module):
    """Noise (B, latent) -> occupancies (B, side, side, side)."""

    def __init__(self, latent: int, side: int) -> None:
        super().__init__()
        self.side, self.start = side, nn.Linear(latent, 4 * (side // 2) ** 3)
        self.body = nn.ConvTranspose3d(4, 1, 4, 2, 1)

    def forward(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(self.body(self.start(latent).view(len(latent), 4, *[self.side // 2] * 3)))[:, 0]


class PixelByPixel(nn.Module):
    """Uniform numbers (B, H, W) -> grey images of two levels, each pixel drawn from those above and to the left."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 1)
        before = torch.zeros(1, 1, 3, 3)
        before[..., 0, :], before[..., 1, 0] = 1, 1
        self.register_buffer("mask", before)

    def logits(self, image: Tensor) -> Tensor:
        seen = F.conv2d(image, self.conv.weight * self.mask, self.conv.bias, padding=1)
        return self.head(torch.relu(seen))

    def forward(self, uniform: Tensor) -> Tensor:
        image = torch.zeros(len(uniform), 1, *uniform.shape[1:], device=uniform.device)
        for row in range(uniform.shape[1]):
            for column in range(uniform.shape[2]):
                bright = torch.sigmoid(self.logits(image)[:, 0, row, column])
                image[:, 0, row, column] = (uniform[:, row, column] < bright).float() * 2 - 1
        return image


class Perturbation(nn.Module):
    """One change, learned, that is added to every image of one size: the input is what is optimised."""

    def __init__(self) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return image + 0.2 * torch.tanh(self.delta)
