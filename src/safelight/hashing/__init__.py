"""Hashes of what images look like, and the nearest of many."""
