"""Hashes of what pictures look like, and the nearest of many."""
