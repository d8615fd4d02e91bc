"""A trained translator over everything a user owns: any size of picture, any number, every night.

Reads the registry through :mod:`gan_lib.tracking` and knows nothing of training.
"""
