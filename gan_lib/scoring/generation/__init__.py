"""What jobs/generate.py does: rows of (id, seed, condition) to images, sound, text, notes or shapes, on a cluster.

A sample is a function of its row, the model and the settings, and of nothing else: neither of its neighbours in a
batch, nor of the number of tasks, nor of how often the run was killed.
"""
