"""Filters of images."""
