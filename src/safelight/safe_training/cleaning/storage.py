"""Reading data from local paths and from any URL that fsspec can open."""

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
    """A folder of data, by its path or URL."""

    url: str

    @classmethod
    def of(cls, url: str) -> tuple[Storage, list[str]]:
        """Return the storage and the sorted relative paths of its files; for a file, its folder and its name.

        Raises ``RequestError`` if there is nothing.
        """
        storage = cls(_absolute(url))
        if not storage._is_file():
            return storage, storage._files()
        head, link, rest = storage.url.partition("::")
        folder, _, name = head.rpartition("/")
        above = f"{folder}/" if not folder or folder.endswith("/") else folder
        return cls(f"{above}{link}{rest}"), [name]

    @contextmanager
    def opened(self, path: str) -> Iterator[BinaryIO]:
        """Open a file for reading. Raises ``OSError``, whatever the kind of storage."""
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
        """Return the bytes of an image file, as ``read_image`` does. Raises ``OSError``."""
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


def _absolute(url: str) -> str:
    """Return an absolute path, as workers may run in another folder; URLs are unchanged."""
    return str(Path(url).absolute()) if "://" not in url and "::" not in url else url


def _check_local(root: str, path: str) -> None:
    """Raise ``OSError`` for a link to something outside the data, and for anything but a file."""
    try:
        there = Path(root, path).resolve(strict=True)
    except (RuntimeError, ValueError) as error:  # circular links, names that no file can have
        raise OSError(first_line(error)) from error
    if not there.is_relative_to(Path(root).resolve()):
        raise OSError("it is a link that leads out of the data")
    if not there.is_file():
        raise OSError("it is not a file")


def read_image(file: IO[bytes]) -> bytes:
    """Return all bytes; of a file above the limit, just enough to see that it is too large."""
    return file.read(_MOST + 1)


def below(folder: str, path: str) -> str:
    """Return a path relative to ``folder``. Raises ``OSError`` for one that leads out of the data."""
    joined = posixpath.normpath(posixpath.join(folder, path))
    if "://" in path or joined.startswith(("../", "/")):
        raise OSError("its image is outside of the data")
    return joined


def text(path: str) -> str:
    """Return a path as UTF-8 text, with other bytes escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
