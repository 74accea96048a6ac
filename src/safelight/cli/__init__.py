"""The command line. One command a file; models and filters are imported when a command needs them."""

from safelight.cli.app import app, main

__all__ = ["app", "main"]
