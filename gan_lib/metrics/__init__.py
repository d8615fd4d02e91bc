"""Measures of a picture against the truth, each with the protocol that its numbers are comparable under."""
