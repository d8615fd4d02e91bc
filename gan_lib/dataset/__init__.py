"""Published datasets: their fields, schema and format on disk, and the catalog that opens them.

The format is Petastorm's, so that stock Petastorm reads what is published here; the code is our own. Making rows is
:mod:`gan_lib.preprocessing`'s work, reading them fast :mod:`gan_lib.loading`'s.
"""
