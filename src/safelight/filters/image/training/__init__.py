"""Training and conversion of the networks packaged with image filters, and images with rendered text."""
