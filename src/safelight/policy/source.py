"""The source of a policy: its file, the files that it extends, and the file and line of each key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.errors import PolicyError, unknown_name
from safelight.storage.toml_file import KeyPath, TomlFile

_PACKAGED = Path(__file__).parents[1] / "policies"
_MOST_FILES = 8


@dataclass(frozen=True, slots=True)
class _Entry:
    """A value and the file that it comes from; the value of a table is a dictionary of entries."""

    value: Any
    file: TomlFile

    @classmethod
    def of(cls, value: Any, file: TomlFile) -> _Entry:
        if isinstance(value, dict):
            value = {key: cls.of(each, file) for key, each in value.items()}
        return cls(value, file)

    def changed_by(self, other: _Entry) -> _Entry:
        """Merge tables; any other value replaces the earlier one, and ``false`` removes it."""
        if not (isinstance(self.value, dict) and isinstance(other.value, dict)):
            return other
        entries = dict(self.value)
        for key, entry in other.value.items():
            there = entries.get(key)
            if there and entry.value is False and not isinstance(there.value, bool):
                del entries[key]
            else:
                entries[key] = there.changed_by(entry) if there else entry
        return _Entry(entries, other.file)

    def at(self, where: KeyPath) -> _Entry | None:
        entry: _Entry | None = self
        for key in where:
            entry = entry.value.get(key) if entry and isinstance(entry.value, dict) else None
        return entry

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: entry.plain() for key, entry in self.value.items()}
        return self.value


@dataclass(frozen=True, slots=True)
class PolicySource:
    """The unvalidated tables of a policy file, merged with the policies that it ``extends``.

    ``bases`` are the ids of the policies that it extends, nearest first, and ``removed`` the categories that
    it removes from them.
    """

    path: Path
    bases: tuple[str, ...]
    removed: frozenset[str]
    _root: _Entry = field(repr=False, compare=False)

    @classmethod
    def read(cls, name_or_path: str | Path) -> PolicySource:
        """Read a packaged policy by name, or a TOML file. Raises ``PolicyError``, naming file and line."""
        file = TomlFile(policy_path(name_or_path), PolicyError)
        files = [file, *_bases(file)]
        root = _Entry.of(files[-1].data, files[-1])
        for over in reversed(files[:-1]):
            root = _without_idle_options(root.changed_by(_Entry.of(over.data, over)), over)
        for key in ("extends", "name", "version"):
            if key == "extends" or ((entry := root.value.get(key)) and entry.file is not file):
                root.value.pop(key, None)
        return cls(file.path, tuple(map(_id, files[1:])), _removed(files), root)

    @property
    def data(self) -> dict[str, Any]:
        """The merged tables of all files, without ``extends``."""
        plain: dict[str, Any] = self._root.plain()
        return plain

    def folder_of(self, where: KeyPath) -> Path:
        """Return the folder of the file that sets a key; paths in the key's value are relative to it."""
        return self._file_of(where).path.parent

    def at(self, where: KeyPath, sentence: str) -> str:
        """Return ``sentence`` about a key, with its file and line."""
        file = self._file_of(where)
        return f"{file.path}, line {file.line_of(where)}: {sentence}"

    def _file_of(self, where: KeyPath) -> TomlFile:
        """Return the file of the key, or of the innermost table around it."""
        found = (self._root.at(where[:depth]) for depth in range(len(where), -1, -1))
        return next((entry.file for entry in found if entry), self._root.file)


def packaged_policies() -> tuple[str, ...]:
    """Return the names of the packaged policies."""
    return tuple(sorted(path.stem for path in _PACKAGED.glob("*.toml")))


def policy_path(name_or_path: str | Path, folder: Path = Path()) -> Path:
    """Return the file of a packaged policy, or the given path relative to ``folder``.

    Raises ``PolicyError`` for a name that is neither.
    """
    name = str(name_or_path)
    if name in packaged_policies():
        return _PACKAGED / f"{name}.toml"
    path = folder / name_or_path
    if path.suffix == ".toml" or len(Path(name).parts) > 1 or exists(path):
        return path
    raise PolicyError(unknown_name("policy", name, packaged_policies()))


def _bases(file: TomlFile) -> list[TomlFile]:
    """Return the files that ``file`` extends, nearest first."""
    chain = [file]
    while "extends" in chain[-1].data:
        base = _base_of(chain[-1])
        paths = [each.path.resolve() for each in chain]
        if base.path.resolve() in paths:
            names = " extends ".join(each.path.name for each in (*chain, base))
            raise PolicyError(f"{_at(chain[-1], 'extends')}: {names}; remove the circular reference.")
        chain.append(base)
        if len(chain) > _MOST_FILES:
            raise PolicyError(
                f"{_at(file, 'extends')}: more than {_MOST_FILES} policies extend each other; use fewer."
            )
    for each in chain[1:]:
        _id(each)
    return chain[1:]


def _base_of(file: TomlFile) -> TomlFile:
    name = file.data["extends"]
    if not isinstance(name, str) or not name:
        raise PolicyError(f"{_at(file, 'extends')}: extends must be the name or the path of one policy.")
    try:
        return TomlFile(policy_path(name, file.path.parent), PolicyError)
    except PolicyError as error:
        raise PolicyError(f"{_at(file, 'extends')}: {error}") from error


def _id(file: TomlFile) -> str:
    """Return name and version of a policy that is extended. Raises ``PolicyError`` if they are missing."""
    for key in ("name", "version"):
        if not isinstance(file.data.get(key), str) or not file.data[key]:
            raise PolicyError(f"{_at(file, key)}: a policy needs a {key} that is text; add it.")
    return f"{file.data['name']} {file.data['version']}"


def _at(file: TomlFile, key: str) -> str:
    return f"{file.path}, line {file.line_of((key,))}"


def _removed(files: list[TomlFile]) -> frozenset[str]:
    """Return the categories that are removed by the nearest file that has them."""
    removed: dict[str, bool] = {}
    for file in files:
        categories = file.data.get("categories")
        for name, rule in categories.items() if isinstance(categories, dict) else ():
            removed.setdefault(name, rule is False)
    return frozenset(name for name, is_removed in removed.items() if is_removed)


def _without_idle_options(root: _Entry, over: TomlFile) -> _Entry:
    """Remove the options of filters that ``over`` no longer lists, unless it sets them itself."""
    filters, options = root.at(("filters",)), root.at(("filters", "options"))
    if not (filters and options and isinstance(options.value, dict)):
        return root
    listed = [name for entry in filters.value.values() for name in _listed(entry.value)]
    for name, entry in list(options.value.items()):
        if name not in listed and entry.file is not over:
            del options.value[name]
    return root


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False for a text that cannot be a path."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
