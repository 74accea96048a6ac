"""Filters that look at pictures."""
