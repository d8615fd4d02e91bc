"""What a scoring job reads: which files, which columns beside them, and how each becomes what a net takes."""
