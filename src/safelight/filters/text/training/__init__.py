"""Training of the prompt classifier."""
