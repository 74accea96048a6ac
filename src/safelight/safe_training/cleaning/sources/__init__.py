"""The forms that training data comes in."""
