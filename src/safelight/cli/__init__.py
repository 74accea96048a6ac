"""The command line: one file per command; each imports models and filters only when it needs them."""

from safelight.cli.app import app, main

__all__ = ["app", "main"]
