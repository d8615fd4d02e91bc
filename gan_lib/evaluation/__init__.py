"""What jobs/evaluate.py does: measures registered models on samples that training never saw, each task its own way."""
