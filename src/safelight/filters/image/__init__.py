"""Filters that look at images."""
