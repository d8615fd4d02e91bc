"""The tables that say what became of each image: their rows, their commits, and the one run that may write them."""
