"""Safelight inside other libraries, by the interfaces that they offer."""
