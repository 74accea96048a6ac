"""What all alignment methods share: concepts by name, and the loop that fine-tunes."""
