"""What may be turned about enlarging on this machine; all else is as :mod:`gan_lib.scoring.settings` has it."""

from __future__ import annotations

from gan_lib.core.config import Settings, Url
from gan_lib.scoring.settings import (
    EncodingSettings,
    InterpolationSettings,
    OutputSettings,
    ScoreLimits,
    TilingSettings,
    digest_of,
)


class EnlargeSettings(Settings):
    """By which model photos are enlarged, and into what."""

    output: Url
    """Folder of the results."""
    model: str = "shipped:enlarger-gan"
    """As ``model`` of :class:`gan_lib.scoring.settings.ScoreSettings`."""
    interpolation: InterpolationSettings | None = None
    """Enlarge by a net between ``model`` and another one."""
    trusted_packages: tuple[str, ...] = ()
    """Packages beside gan_lib's own that the model's net may come from."""
    encoding: EncodingSettings = EncodingSettings()
    """As what kind of file the results are written."""
    tiling: TilingSettings = TilingSettings()
    """How photos are cut to fit into memory."""
    limits: ScoreLimits = ScoreLimits()
    """What a photo may cost."""

    @property
    def files(self) -> OutputSettings:
        """The results, as a scoring job would write them."""
        return OutputSettings(url=self.output, **self.encoding.model_dump())

    def digest(self) -> str:
        """That of a scoring job in the same way, so that each keeps what the other has done."""
        return digest_of(self.tiling, self.files, self.limits, {}, self.interpolation)
