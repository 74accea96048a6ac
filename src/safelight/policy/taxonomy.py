"""The categories of harm and their names in other taxonomies (``taxonomy.toml``)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safelight.errors import PolicyError
from safelight.storage.packaged_files import read_text


@dataclass(frozen=True, slots=True)
class Category:
    """A category of harm; ``names`` maps each other taxonomy to the category's names in it, if any."""

    id: str
    meaning: str
    names: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """All categories by id. The mapping to the names of other taxonomies is many to many."""

    version: str
    categories: Mapping[str, Category]

    def ours(self, taxonomy: str, name: str) -> tuple[str, ...]:
        """Return the ids of the categories that ``taxonomy`` calls ``name``."""
        return tuple(id for id, c in self.categories.items() if name in c.names.get(taxonomy, ()))


@cache
def load_taxonomy() -> Taxonomy:
    """Return the packaged taxonomy."""
    data = tomllib.loads(read_text(Path(__file__).with_name("taxonomy.toml"), PolicyError))
    categories = {
        id: Category(id, row["meaning"], {name: tuple(theirs) for name, theirs in row["names"].items()})
        for id, row in data["categories"].items()
    }
    return Taxonomy(data["version"], categories)
