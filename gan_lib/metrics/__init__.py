"""Measures, each with the protocol that its numbers are comparable under, and accumulators that merge over ranks."""
