"""Deltas (weight differences): saving, attaching to a pipeline, exporting, model cards, effect on images."""
