"""Alignment of the diffusion model itself: concepts are taken out of its weights."""
