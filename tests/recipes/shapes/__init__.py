"""Tiny recipes, one for each row of the table of what papers need: none of them needs a change anywhere else.

They learn nothing worth looking at. What counts is that each says what its papers say, in the protocol's words.
"""
