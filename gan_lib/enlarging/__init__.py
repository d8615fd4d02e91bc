"""Photos made larger on this machine alone, without Spark and without MLflow: what ``gan-lib enlarge`` does."""
