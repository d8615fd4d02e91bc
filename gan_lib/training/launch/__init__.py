"""Runs a function on N ranks by TorchDistributor, and tells the truth about how it went."""
