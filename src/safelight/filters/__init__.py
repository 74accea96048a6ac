"""Filters: they report findings, and the policy decides what to do about them."""
