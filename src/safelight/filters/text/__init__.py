"""Filters of prompts."""
