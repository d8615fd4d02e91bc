"""What cameras, programs and networks do to photos: blur, resizing, noise and JPEG, as Wang et al. 2021 combine them.

Functions of a batch of images on its own device, each sample with parameters of its own. What is random is a function
of (seed, position): see :mod:`gan_lib.core.random`. Levels are floats from 0 to 255. Nothing waits for the device.
"""
