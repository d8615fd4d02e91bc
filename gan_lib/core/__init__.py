"""What everything stands on: configuration, errors, storage, images, random numbers. Knows nothing of the rest."""
