"""Two sets of samples compared by features of a net: no sample has a target of its own."""
