"""Functions of a batch of images, on its own device: rows to learn from, and what discriminators see of images.

``images`` crops, flips, turns and resizes (its functions are found here too); ``differentiable`` and ``adaptive``
change what a discriminator sees, real and fake alike, so that few images suffice.
"""

from gan_lib.augment.images import (
    downscale,
    instance_noise,
    match_channels,
    normalise,
    random_crop,
    random_hflip,
    random_rot90,
    resize,
    to_levels,
)

__all__ = [
    "downscale",
    "instance_noise",
    "match_channels",
    "normalise",
    "random_crop",
    "random_hflip",
    "random_rot90",
    "resize",
    "to_levels",
]
