"""Results as files and bytes, with their provenance inside."""
