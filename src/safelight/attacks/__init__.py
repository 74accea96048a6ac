"""Attacks that try to bypass guardrails, for measuring their robustness."""
