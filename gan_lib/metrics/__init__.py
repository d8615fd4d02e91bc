"""Measures of an image against the truth, each with the protocol that its numbers are comparable under."""
