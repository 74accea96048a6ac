"""The data files of this package, whose hashes are pinned in ``hashes.json``.

Word lists, policies, configurations and weights decide what is allowed. Each file is hashed when it is read,
and the bytes that are parsed are those that were hashed. This detects damage and single replaced files; it
does not protect against someone who can write to the whole package and so change its code as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from safelight.errors import ModelError, SafelightError

_PACKAGE = Path(__file__).parents[1]
_MANIFEST = _PACKAGE / "hashes.json"
_PINNED = (".json", ".onnx", ".safetensors", ".toml", ".txt")


def read_bytes(path: Path, error: type[SafelightError] = ModelError) -> bytes:
    """Return the bytes of a file; raises ``error`` if it is a packaged one that was altered."""
    data = path.read_bytes()
    check_bytes(path, data, error)
    return data


def read_text(path: Path, error: type[SafelightError] = ModelError) -> str:
    """Return the text of a UTF-8 file; raises ``error`` if it is a packaged one that was altered."""
    return read_bytes(path, error).decode("utf-8")


def check_bytes(path: Path, data: bytes, error: type[SafelightError] = ModelError) -> None:
    """Raise ``error`` if the file is a packaged one and ``data``, read from it, is not what was pinned."""
    name = _packaged_name(path)
    if name is not None:
        _check(name, data, error)


def is_packaged(path: Path) -> bool:
    """Return whether the file is part of this package, judging by its path without resolving links."""
    return _packaged_name(path) is not None


def check_folder(folder: Path) -> None:
    """Raise ``ModelError`` unless a packaged folder contains all of its data files unaltered, and no others.

    This is for libraries that read a folder themselves. Folders outside of the package are not checked.
    """
    name = _packaged_name(folder)
    if name is None:
        return
    prefix = f"{name}/"
    there = {name for name in _data_files() if name.startswith(prefix)}
    for name in sorted(there | {name for name in _pinned() if name.startswith(prefix)}):
        if name not in there:
            raise ModelError(f"{_PACKAGE / name} is missing; install safelight again.")
        _check(name, (_PACKAGE / name).read_bytes(), ModelError)


def write_manifest() -> None:
    """Pin every data file of the package as it is now."""
    hashes = {name: _sha256((_PACKAGE / name).read_bytes()) for name in sorted(_data_files())}
    _MANIFEST.write_text(json.dumps(hashes, indent=2) + "\n", "utf-8", newline="\n")
    _pinned.cache_clear()


def _check(name: str, data: bytes, error: type[SafelightError]) -> None:
    pinned = _pinned().get(name)
    if pinned is None:
        raise error(f"{_PACKAGE / name} is not part of safelight; move it elsewhere and give its path.")
    if _sha256(data) != pinned:
        raise error(
            f"{_PACKAGE / name} was altered (wrong sha256); install safelight again, or, to use your own "
            "version, copy it elsewhere and give its path."
        )


@cache
def _pinned() -> Mapping[str, str]:
    """Return the hash of each packaged file by its path relative to the package."""
    try:
        hashes: Mapping[str, str] = dict(json.loads(_MANIFEST.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as problem:
        raise ModelError(f"{_MANIFEST} is missing or damaged; install safelight again.") from problem
    return hashes


def _packaged_name(path: Path) -> str | None:
    # Links are not resolved, because installers may link every file of a package to a store elsewhere.
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps ".."
    if not absolute.is_relative_to(_PACKAGE):
        return None
    return absolute.relative_to(_PACKAGE).as_posix()


def _data_files() -> Iterator[str]:
    for path in _PACKAGE.rglob("*"):
        if path.suffix in _PINNED and path != _MANIFEST and path.is_file():
            yield path.relative_to(_PACKAGE).as_posix()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
