"""What a configuration may call the measures; of text alone, so that a slip in it is found before torch is imported."""

from __future__ import annotations

from typing import Literal

PairMetric = Literal["psnr", "ssim", "psnr_rgb", "ssim_rgb", "ms_ssim", "lpips", "perceptual_distance"]
"""Of a prediction and its target: :data:`gan_lib.evaluation.measuring.pairs.MEASURES`."""
SetMetric = Literal["fid", "kid", "inception_score", "precision", "recall", "density", "coverage"]
"""Of a set of images: :data:`gan_lib.metrics.sets.measures.MEASURES`."""
WITHOUT_REFERENCE: tuple[SetMetric, ...] = ("inception_score",)
"""Those that look at the set alone."""
