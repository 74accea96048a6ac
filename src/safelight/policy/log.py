"""What the log of requests may hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from safelight.policy.table import Table


class Log(Table):
    """Says what the log of requests and audit records may hold.

    Prompts are hashed; with ``prompts``, their text is there as well, and so are sentences that may quote it.
    Anyone can check a guess at a prompt against its SHA-256; with ``key_variable``, the name of an
    environment variable that holds a secret key, only someone who has the key can.
    """

    prompts: bool = False
    key_variable: Annotated[str, Field(min_length=1)] | None = None
