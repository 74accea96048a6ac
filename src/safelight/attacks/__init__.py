"""Attacks that try to bypass guardrails, to measure how robust these are."""
