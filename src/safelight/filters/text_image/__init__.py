"""Filters of images together with their prompts."""
