"""Nets that the package brings along: a folder each, with weights, signature, and a card that says how it was made.

``shipped:NAME`` is how a setting, a Spark function or a command names one. ``benchmarks/ship_enlarger.py`` makes such a
folder of what a training has exported.
"""
