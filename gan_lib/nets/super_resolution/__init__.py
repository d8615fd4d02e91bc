"""Nets that enlarge images, as the papers and public weights have them."""
