"""Deadlines, thread counts and worker processes."""
