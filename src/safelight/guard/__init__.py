"""The guard around a pipeline, for one caller or many."""
