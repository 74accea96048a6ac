"""Filters that compare an image with its prompt."""
