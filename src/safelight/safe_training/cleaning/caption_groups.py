"""Groups of captions by the people and subjects they mention, to see where cleaning rejects too much."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from safelight.errors import RequestError
from safelight.storage.toml_file import TomlFile

_Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Words = Annotated[tuple[_Word, ...], Field(min_length=1)]
_PACKAGED = Path(__file__).with_suffix(".toml")


class CaptionGroups(BaseModel):
    """Groups of captions: each matches any of its ``words`` or phrases, as whole words in any case."""

    model_config = ConfigDict(frozen=True, ignored_types=(cached_property,))

    words: Mapping[str, _Words]

    @classmethod
    def load(cls, path: Path | None = None) -> CaptionGroups:
        """Read groups from a TOML file with a list of words for each name, or return the packaged groups.

        Raises ``RequestError`` for a file in any other format.
        """
        file = TomlFile(path or _PACKAGED, RequestError)
        try:
            return cls(words=file.data)
        except ValidationError as error:
            place = error.errors()[0]
            name = str(place["loc"][1]) if len(place["loc"]) > 1 else ""
            line = file.line_of((name,) if name else ())
            raise RequestError(
                f"{file.path}, line {line}: {name or 'a group'} must be a list of words."
            ) from error

    def of(self, caption: str) -> list[str]:
        """Return the names of the groups that a caption belongs to."""
        return [name for name, pattern in self._patterns.items() if pattern.search(caption)]

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        return {name: _pattern(words) for name, words in self.words.items()}

    def to_settings(self) -> dict[str, Any]:
        return self.model_dump(mode="json")["words"]  # type: ignore[no-any-return]


def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    every = "|".join(r"\s+".join(map(re.escape, word.split())) for word in words)
    return re.compile(rf"(?<!\w)(?:{every})(?:s|'s|’s)?(?!\w)", re.IGNORECASE)
