"""Whatever is on disk -> a published dataset: sources, media, duplicates, publication. Spark runs it.

Not for reading the dataset (:mod:`gan_lib.dataset`) nor for decoding one image (:mod:`gan_lib.core.images`).

A corpus goes through in one pass over its bytes:

1. ``sources`` list samples as byte ranges in files, in Spark tasks; ``planning`` cuts the list into tasks of one cost.
2. ``vocabulary`` counts tokens, where there are texts to encode: for them it is one pass more.
3. ``task`` runs one task: read, hash, decode, check, cut, encode, each part by its medium (``media``, ``cropping``). It
   leaves fragments of shuffled rows and a status of every sample.
4. ``duplicates`` decides from the statuses which samples stay.
5. ``publishing`` merges the fragments into the dataset's files, in the order of a hash, and commits them.

``run`` takes these steps for one version. Each leaves files in the dataset's staging folder; a run that was killed
continues from them. A version that was published before statuses lay in ``sample_status/`` is opened as ever, but none
is built upon it: name another output.
"""
