"""Stored rows -> rows of a batch in memory. Opens no file and starts no thread."""
