"""One task, one file: what a model is given, what its result is compared with, and which models fit."""
