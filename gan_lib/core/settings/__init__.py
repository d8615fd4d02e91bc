"""What stands in the classes of settings: annotations beyond the type, and the list of keys that follows from them."""
