"""Trains any recipe on any number of ranks: devices, precision, accumulation, averages, saving. It knows no model."""
