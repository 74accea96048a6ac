"""Code that all alignment methods share: parsing concept names, and the fine-tuning loop."""
