"""Weight differences: saving, attaching to a pipeline, exporting, model cards, and measuring their effect."""
