"""The generated parts of ``docs/reference/`` are what the code says now; every page is in the navigation."""

from __future__ import annotations

import pkgutil
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from safelight import Policy
from safelight.policy.taxonomy import load_taxonomy

ROOT = Path(__file__).parents[1]
DOCS, EXAMPLES = ROOT / "docs", ROOT / "examples" / "policies"
PAGES = sorted((DOCS / "reference").glob("*.md"))

sys.path.insert(0, str(DOCS / "tools"))
import command_blocks  # noqa: E402
import make_reference  # noqa: E402
import policy_blocks  # noqa: E402

ADVICE = "run `make reference` (python docs/tools/make_reference.py) and commit what it changed"


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return make_reference.blocks()


def test_generated_blocks_are_those_of_the_code(generated: dict[str, str]) -> None:
    stale = [
        path.name
        for path in PAGES
        if make_reference.filled(text := path.read_text("utf-8"), generated) != text
    ]
    assert not stale, f"{', '.join(stale)}: {ADVICE}"


def test_every_generated_block_is_on_one_page(generated: dict[str, str]) -> None:
    used = [name for path in PAGES for name in make_reference.names_in(path.read_text("utf-8"))]
    assert sorted(used) == sorted(generated)


def test_a_page_that_lacks_a_key_is_stale(generated: dict[str, str]) -> None:
    page = (DOCS / "reference" / "policy.md").read_text("utf-8")
    lacking = "\n".join(line for line in page.splitlines() if not line.startswith("| `timeout_s` | number"))
    assert lacking != page
    assert make_reference.filled(lacking, generated) != lacking


def test_help_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = command_blocks.help_of(("policy", "check"))
    monkeypatch.setenv("COLUMNS", "40")
    assert command_blocks.help_of(("policy", "check")) == expected
    assert "--stage" in expected


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _models(part)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _parts(part)


def test_the_policy_reference_has_every_table_key_and_category() -> None:
    models = set(_models(Policy))
    assert models == set(policy_blocks.TABLES.values())
    page = (DOCS / "reference" / "policy.md").read_text("utf-8")
    keys = [name for model in models for name in model.model_fields]
    assert {name for name in (*keys, *load_taxonomy().categories) if f"| `{name}` |" not in page} == set()


def test_every_key_has_a_meaning() -> None:
    for model in policy_blocks.TABLES.values():
        assert policy_blocks.docstrings(model).keys() >= model.model_fields.keys(), model


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_example_policies_are_right(path: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES, tmp_path / "policies")
    (folder / "gun.safetensors").touch()
    assert Policy.load(folder / path.name).name == path.stem.replace("_", " ")


def test_one_example_has_every_key() -> None:
    written = set(_keys(tomllib.loads((EXAMPLES / "every_key.toml").read_text("utf-8"))))
    keys = {name for model in policy_blocks.TABLES.values() for name in model.model_fields}
    assert keys - written == set()


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from _keys(each)


def test_every_page_is_in_the_navigation() -> None:
    nav = set(_leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    # Pages of the repository itself are made for the site by docs/tools/site_hooks.py.
    assert {page for page in nav if not page.startswith("repository/")} == pages
    for page in nav - pages:
        assert (ROOT / page.removeprefix("repository/")).exists(), page


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for each in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _leaves(each)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_name_of_the_reference_exists(page: Path) -> None:
    """The site is not built here, and fails for a name that is gone."""
    for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE):
        assert pkgutil.resolve_name(name) is not None
