"""Generative networks over image corpora: Spark prepares and scores, TorchDistributor trains, MLflow remembers."""

__version__ = "0.1.0"
