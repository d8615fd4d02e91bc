"""Published datasets: their schema and format on disk, the catalog that opens them, the plan of an epoch, the loader.

The format is Petastorm's, so that stock Petastorm reads what is published here; the code is our own. Making the
images is :mod:`gan_lib.preprocessing`'s work, and what a recipe does with a batch is the recipe's.
"""
