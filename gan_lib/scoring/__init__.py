"""A trained artifact over everything a user owns: any size of image, any number, every night.

Reads the registry through :mod:`gan_lib.tracking` and knows nothing of training.
"""
