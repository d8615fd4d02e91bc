"""jobs/import_model: weights that others published become an artifact, or what a training begins with."""
