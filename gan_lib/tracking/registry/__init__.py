"""Registered models: their files, their cards, and where MLflow keeps them."""
