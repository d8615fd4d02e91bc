"""What leaves a training: a net with its signature, saved and loaded without pickle.

Knows nothing of image files, Spark, MLflow or tiles.
"""
