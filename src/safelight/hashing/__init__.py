"""Perceptual hashes of images, and nearest-neighbour search among them."""
