"""From staged rows to a version that readers find: the second half of the shuffle, and the commit."""
