"""The public formats of weights that are known, one kind of net a file."""
