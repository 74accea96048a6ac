"""Items from folders of images and from glob patterns."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from safelight.cli import terminal
from safelight.cli.item import Item
from safelight.errors import RequestError
from safelight.images import SUFFIXES

# Image formats that no filter can read. They count as images, so that their records report the failure.
_UNREADABLE = frozenset(
    {".arw", ".cr2", ".dds", ".dng", ".exr", ".hdr", ".heic", ".heif", ".icns", ".ico", ".j2k", ".jp2"}
    | {".jxl", ".nef", ".pbm", ".pgm", ".pnm", ".ppm", ".psd", ".qoi", ".svg", ".tga"}
)
_SIGNATURES = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"8BPS",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL ",
    b"\0\0\0\x0cjP  ",
)
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")

Unread = Callable[[OSError], None]


def image_item(path: Path) -> Item:
    return Item("image", {"path": str(path)}, path)


def is_image_name(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES | _UNREADABLE


def is_image(path: Path) -> bool:
    """Return whether the file's name or its first bytes are those of an image. Raises ``OSError``."""
    if is_image_name(path):
        return True
    with path.open("rb") as file:
        head = file.read(32)
    return (
        head.startswith(_SIGNATURES)
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and head[6:10] == bytes(4))
        or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)
    )


def items_in(folder: Path) -> list[Item]:
    """Return the images in the folder and its subfolders, and entries that could not be read, sorted by path.

    Prints a note about files that are not images. Raises ``RequestError`` if the folder has no images.
    """
    items: dict[Path, Item] = {}
    others = _add_folder(folder, items)
    if not items:
        there = f", only {others[0]}{_and_more(others)}" if others else ""
        raise RequestError(f"{folder} has no images in it{there}; give a folder that has some.")
    if others:
        terminal.note(f"{folder}: skipped, not an image: {others[0]}{_and_more(others)}.")
    return [items[path] for path in sorted(items)]


def _and_more(paths: list[Path]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""


def items_matching(pattern: str) -> list[Item]:
    """Return the files that match, sorted; a matching folder stands for the images in it.

    Raises ``RequestError`` if nothing matches.
    """
    items: dict[Path, Item] = {}
    start = Path(pattern)
    parts = start.parts[1:] if start.anchor else start.parts
    for path in _matching(Path(start.anchor), parts, _reporting(items)):
        if _is_folder(path):
            _add_folder(path, items)
        else:
            items[path] = _problem_at(path) or image_item(path)
    if not items:
        raise RequestError(f"no file matches {pattern}; give another pattern.")
    return [items[path] for path in sorted(items)]


def _add_folder(folder: Path, items: dict[Path, Item]) -> list[Path]:
    """Add the images of the folder to ``items``, and return its files that are not images."""
    others = []
    root = folder.resolve()
    for home, folders, names in os.walk(folder, onerror=_reporting(items)):
        for link in (Path(home, name) for name in folders):
            if link.is_symlink() and not link.resolve().is_relative_to(root):
                items[link] = _problem(link, "it is a link to another folder; give that one as well.")
        for path in (Path(home, name) for name in names):
            if item := _entry(path):
                items[path] = item
            else:
                others.append(path)
    return sorted(others)


def _entry(path: Path) -> Item | None:
    """Return the item of a file; None if it is not an image."""
    try:
        return _problem_at(path) or (image_item(path) if is_image(path) else None)
    except OSError as error:
        return _unread(path, error)


def _problem_at(path: Path) -> Item | None:
    """Return a problem for anything but a regular file, as opening a pipe or device could block for ever."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        return _unread(path, error)
    return None if regular else _problem(path, "it is not a regular file.")


def _is_folder(path: Path) -> bool:
    """Return whether it is a folder, but not a link to one, which could lead back to its own parents."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _problem(path: Path, sentence: str) -> Item:
    return Item("problem", {"path": str(path)}, sentence)


def _unread(path: Path, error: OSError) -> Item:
    return _problem(path, f"it cannot be read: {error.strerror or error}.")


def _reporting(items: dict[Path, Item]) -> Unread:
    def report(error: OSError) -> None:
        path = Path(str(error.filename))
        items[path] = _unread(path, error)

    return report


def _matching(folder: Path, parts: tuple[str, ...], unread: Unread) -> Iterator[Path]:
    """Yield the paths that ``glob`` would find, and hidden files; report folders that cannot be listed."""
    if not parts:
        yield folder
        return
    first, rest = parts[0], parts[1:]
    if first == "**":
        yield from _matching(folder, rest, unread) if rest else ()
    for path in _below(folder, first, unread):
        if first != "**":
            yield from _matching(path, rest, unread)
        elif _is_folder(path):
            yield from _matching(path, parts, unread)
        elif not rest:
            yield path


def _below(folder: Path, name: str, unread: Unread) -> Iterable[Path]:
    """Return the entries of the folder that match the name, which may be a pattern."""
    try:
        if not glob.has_magic(name):
            (folder / name).lstat()
            return [folder / name]
        return [path for path in folder.iterdir() if name == "**" or fnmatch(path.name, name)]
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    except OSError as error:
        unread(error)
        return []
