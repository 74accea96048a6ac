"""Engines, which distribute shards to workers."""
