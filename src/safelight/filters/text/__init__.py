"""Filters that read prompts."""
