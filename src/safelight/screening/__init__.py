"""Screening: runs the filters of one stage in order, with time limits, and validates their findings."""
