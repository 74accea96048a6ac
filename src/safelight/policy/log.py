"""The table of a policy about the log of requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from safelight.policy.table import Table


class Log(Table):
    """The content that the log of requests and the audit records may have.

    Prompts are hashed; with ``prompts``, the records also have their text, and sentences that may quote it.
    Anyone can compare a guessed prompt with a SHA-256 hash; with ``key_variable``, the name of an environment
    variable that holds a secret key, only someone who has the key can.
    """

    prompts: bool = False
    """Log the text of prompts, and sentences that may quote it."""
    key_variable: Annotated[str, Field(min_length=1)] | None = None
    """Name of an environment variable with a secret key for the hashes of prompts."""
