"""Loads models, and adapts to the differences between families of diffusers pipelines."""
