"""Where data lies: local paths, and any URL that fsspec knows."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, BinaryIO

from safelight.errors import MissingExtraError, RequestError, first_line
from safelight.images import ImageLimits

_MOST = ImageLimits().encoded_bytes


@dataclass(frozen=True)
class Storage:
    """A folder, by its path or URL, and what is below it."""

    url: str

    @classmethod
    def of(cls, url: str) -> tuple[Storage, list[str]]:
        """It and the paths of its files, from it on, sorted; of a file, its folder and its name alone.

        Raises ``RequestError`` if there is nothing.
        """
        itself = cls(_anywhere(url))
        if not itself._is_file():
            return itself, itself._files()
        head, link, rest = itself.url.partition("::")
        folder, _, name = head.rpartition("/")
        above = f"{folder}/" if not folder or folder.endswith("/") else folder
        return cls(f"{above}{link}{rest}"), [name]

    @contextmanager
    def opened(self, path: str) -> Iterator[BinaryIO]:
        """Raises ``OSError``, whatever storage it is."""
        system, root = self._place
        if system.protocol in ("file", ("file", "local")):
            _check_local(root, path)
        try:
            file = system.open(posixpath.join(root, path), "rb")
        except OSError:
            raise
        except Exception as error:  # every kind of storage has exceptions of its own
            raise OSError(first_line(error)) from error
        with file:
            yield file

    def read(self, path: str) -> bytes:
        """The bytes of an image's file, as ``read_image``. Raises ``OSError``."""
        with self.opened(path) as file:
            return read_image(file)

    def _is_file(self) -> bool:
        system, root = self._place
        return bool(self._asked(lambda: system.isfile(root)))

    def _files(self) -> list[str]:
        system, root = self._place
        found = self._asked(lambda: system.find(root) if system.exists(root) else [])
        if not found:
            raise RequestError(f"there is nothing in {self.url}; give a folder, a file or a URL of data.")
        return sorted(posixpath.relpath(path, root) for path in found)

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as error:  # every kind of storage has exceptions of its own
            raise RequestError(f"{self.url} cannot be read: {first_line(error)}.") from error

    @cached_property
    def _place(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingExtraError("Cleaning training data", "data") from error
        try:
            system, root = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise RequestError(f"{self.url} cannot be read: {first_line(error)}.") from error
        return system, str(root)


def _anywhere(url: str) -> str:
    """A path that holds in any folder; workers need not be in this one."""
    return str(Path(url).absolute()) if "://" not in url and "::" not in url else url


def _check_local(root: str, path: str) -> None:
    """Raises ``OSError`` for a link to something outside of the data, and for what is no file."""
    try:
        there = Path(root, path).resolve(strict=True)
    except (RuntimeError, ValueError) as error:  # links in a circle, names that no file can have
        raise OSError(first_line(error)) from error
    if not there.is_relative_to(Path(root).resolve()):
        raise OSError("it is a link that leads out of the data")
    if not there.is_file():
        raise OSError("it is no file")


def read_image(file: IO[bytes]) -> bytes:
    """All bytes; of a larger file than is looked at enough to know that it is."""
    return file.read(_MOST + 1)


def below(folder: str, path: str) -> str:
    """The path that data in ``folder`` gives. Raises ``OSError`` for one that leads out of the data."""
    joined = posixpath.normpath(posixpath.join(folder, path))
    if "://" in path or joined.startswith(("../", "/")):
        raise OSError("its image is outside of the data")
    return joined


def text(path: str) -> str:
    """A path that any file can hold: what is not UTF-8 in it is written out."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
