"""Which samples are duplicates of others."""
