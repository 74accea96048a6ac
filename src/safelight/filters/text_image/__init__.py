"""Filters that compare a picture with its prompt."""
