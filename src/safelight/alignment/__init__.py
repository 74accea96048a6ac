"""Alignment: what teaches or makes a model not to draw harm."""
