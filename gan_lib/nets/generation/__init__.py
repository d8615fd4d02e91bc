"""Nets that generate images from noise and score them, and the layers that such nets share."""
