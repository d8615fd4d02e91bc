"""Whatever is on disk -> a published dataset: sources, checks, patches, duplicates, publication. Spark runs it.

Not for reading the dataset (`gan_lib.dataset`) nor for decoding one image (`gan_lib.core.images`).

A corpus goes through in one pass over its bytes:

1. ``sources`` list samples as byte ranges in files, in Spark tasks, and cut the list into tasks of equal bytes.
2. ``work`` runs one task: read, hash, decode, check, cut, encode. It leaves a ``fragment`` of shuffled patches and an
   status of every sample.
3. ``duplicates`` decides from the statuses which samples stay.
4. ``publish`` merges the fragments into the dataset's files, in the order of a hash, and commits them.

Each step leaves files in the dataset's staging folder; a run that was killed continues from them.
"""
