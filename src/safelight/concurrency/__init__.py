"""Deadlines and cores."""
