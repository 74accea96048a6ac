"""Hooks of the site: files of the repository that pages link to are in the site, under ``repository/``.

So the same relative link works in the repository and on the site. Markdown becomes a page, source code a page
with the code, anything else is copied. After the build, nothing may be fetched from another host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COPIES = "repository"
# Pages of the navigation that nothing has to link to.
_PROJECT = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
_CODE = {".py": "python", ".toml": "toml", ".cff": "yaml"}
_LINK = re.compile(r"(\]\()((?!https?:|mailto:|#)[^)#\s]+)")
_FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]+src=\"?https?:|<link[^>]+(?:stylesheet|icon)[^>]+href=\"?https?:"
)


def on_files(files: Files, config: Any) -> Files:
    """Add every file outside of ``docs/`` that a page links to, and those that these link to."""
    waiting = [ROOT / name for name in _PROJECT]
    waiting += [each for page in DOCS.rglob("*.md") for each in _outside(page)]
    added: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in added:
            continue
        added.add(path)
        files.append(_copy(path, config))
        if path.suffix == ".md":
            waiting += _outside(path)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links out of ``docs/`` to the copies, and those of copies to where their files are."""
    uri: str = page.file.src_uri
    origin = ROOT / uri.removeprefix(f"{COPIES}/") if uri.startswith(f"{COPIES}/") else DOCS / uri
    if not origin.exists():  # a page that shows code has no links
        return markdown

    def moved(match: re.Match[str]) -> str:
        path = (origin.parent / match[2]).resolve()
        here = Path(uri).parent
        return f"{match[1]}{os.path.relpath(_site_uri(path), here)}" if path.exists() else match[0]

    return _LINK.sub(moved, markdown)


def on_post_build(config: Any) -> None:
    """Raise ``PluginError`` if a page of the site fetches something from another host."""
    for page in Path(config.site_dir).rglob("*.html"):
        if found := _FETCHED.search(page.read_text("utf-8")):
            raise PluginError(f"{page} fetches something from the network: {found[0]}")


def _outside(page: Path) -> Iterator[Path]:
    """The files outside of ``docs/`` that a page links to."""
    for match in _LINK.finditer(page.read_text("utf-8")):
        path = (page.parent / match[2]).resolve()
        if path.exists() and path.is_relative_to(ROOT) and not path.is_relative_to(DOCS):
            yield path


def _site_uri(path: Path) -> str:
    """Return the path of a repository file in the site's sources."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    uri = f"{COPIES}/{path.relative_to(ROOT).as_posix()}"
    return f"{uri}.md" if path.is_dir() or path.suffix in _CODE else uri


def _copy(path: Path, config: Any) -> File:
    if path.is_dir() or path.suffix in _CODE:
        return File.generated(config, _site_uri(path), content=_code_page(path))
    return File.generated(config, _site_uri(path), abs_src_path=str(path))


def _code_page(path: Path) -> str:
    """A page with the code of a file, or of every file in a folder."""
    paths = sorted(each for each in path.rglob("*") if each.suffix in _CODE) if path.is_dir() else [path]
    blocks = [
        f"## {each.name}\n\n```{_CODE[each.suffix]}\n{each.read_text('utf-8').rstrip()}\n```"
        for each in paths
    ]
    return "\n\n".join([f"# {path.relative_to(ROOT).as_posix()}", *blocks])
