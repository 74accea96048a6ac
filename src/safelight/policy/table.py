"""The base of all tables of a policy: unknown keys are errors, and values are not converted."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], Field(strict=False)]


class Table(BaseModel):
    """The base class of the tables of a policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
