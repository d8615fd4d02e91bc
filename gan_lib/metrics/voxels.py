"""Measures of shapes in voxels."""

from __future__ import annotations

from torch import Tensor


def voxel_iou(target: Tensor, prediction: Tensor, threshold: float = 0.5) -> Tensor:
    """Intersection over union of each shape's filled voxels, float64 (B,), from occupancies (B, ...); 1 at best.

    A voxel above ``threshold`` is filled. Two empty shapes are equal: 1.

    Raises:
        ValueError: the shapes differ.
    """
    if target.shape != prediction.shape:
        raise ValueError(f"cannot compare voxels of {tuple(prediction.shape)} with {tuple(target.shape)}")
    a, b = (target > threshold).flatten(1), (prediction > threshold).flatten(1)
    intersection, union = (a & b).sum(dim=1).double(), (a | b).sum(dim=1).double()
    return (intersection / union).where(union > 0, 1.0)
