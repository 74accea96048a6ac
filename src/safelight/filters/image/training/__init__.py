"""Conversion of the networks that are packaged with image filters."""
