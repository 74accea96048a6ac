"""Known images: finds images on lists of hashes, even if they are scaled, re-encoded, rotated or mirrored."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.errors import FilterError, unknown_name
from safelight.filters.image.hash_lists import HashList
from safelight.hashing.hash_index import MAX_DISTANCE
from safelight.hashing.pdq import MIN_QUALITY, PdqHasher
from safelight.policy.taxonomy import load_taxonomy
from safelight.registry import register
from safelight.types import Finding, HashMatch

if TYPE_CHECKING:
    from PIL.Image import Image

_logger = logging.getLogger(__name__)


class _WatchedList:
    """A list of hashes that is reloaded when its file changes.

    If the changed file cannot be read, the previous list stays in use, which protects better than none, and
    is ``stale`` until the file is valid again.
    """

    def __init__(self, path: Path, label: str) -> None:
        self.path = path
        self.label = label
        self.stale = False
        self._lock = threading.Lock()
        self._state = self._file_state()
        self.hashes = HashList.read(path)

    def current(self) -> HashList:
        """Return the current list; while another thread is reloading it, the previous one."""
        if self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        return self.hashes

    def _refresh(self) -> None:
        # The state is taken before the file is read, so that a change in between is noticed the next time.
        if (state := self._file_state()) == self._state:
            return
        self._state = state
        try:
            self.hashes = HashList.read(self.path)
            self.stale = False
        except FilterError as error:
            self.stale = True
            _logger.warning("the list of known images was not reloaded: %s", error)

    def _file_state(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


@register("image_filter", "known-image")
class KnownImage:
    """Reports the label of each list that contains the image, with the closest entry.

    ``lists`` maps files to labels, which are categories of harm; the default label is csae. An image is
    known if its PDQ hash in any of eight orientations is within ``distance`` (at most 31) bits of a listed
    one, unless its PDQ quality is below ``quality``; or if the SHA-256 or MD5 of the file that it was decoded
    from is listed, which are read from "sha256" and "md5" in ``image.info``. The defaults of ``distance`` and
    ``quality`` are ThreatExchange's:
    https://github.com/facebook/ThreatExchange/tree/main/pdq#matching

    Raises ``FilterError`` for a list that is missing, malformed or empty.
    """

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"pdqhash": "hashes"}

    def __init__(
        self,
        lists: Mapping[str, str] | Sequence[str | Path] | str | Path,
        distance: int = MAX_DISTANCE,
        quality: int = MIN_QUALITY,
        name: str = "known-image",
    ) -> None:
        self.name = name
        self._hasher = PdqHasher()
        self._distance = _checked("distance", distance, MAX_DISTANCE)
        self._quality = _checked("quality", quality, 100)
        self._lists = _watch(lists)
        self.labels = frozenset(each.label for each in self._lists.values())

    @property
    def version(self) -> str:
        """A hash of the contents of all lists, with a note if one of them could not be reloaded."""
        contents = "".join(each.hashes.fingerprint for each in self._lists.values())
        stale = any(each.stale for each in self._lists.values())
        return hashlib.sha256(contents.encode()).hexdigest()[:12] + (" stale" if stale else "")

    def find(self, images: Sequence[Image]) -> list[list[Finding] | FilterError]:
        lists = {bank: (each.label, each.current()) for bank, each in self._lists.items()}
        return [self._findings(image, lists) for image in images]

    def _findings(
        self, image: Image, lists: Mapping[str, tuple[str, HashList]]
    ) -> list[Finding] | FilterError:
        try:
            pdq = self._hasher(image)
        except (OSError, ValueError) as error:
            return FilterError(f"its pixels cannot be read ({error}).")
        digests = _digests(image)
        findings = []
        for bank, (label, hashes) in lists.items():
            match = None
            if (same := hashes.exact(digests)) is not None:
                match = same, 0
            elif pdq.quality >= self._quality:
                match = hashes.closest(pdq, self._distance)
            if match:
                findings.append(Finding(label, 1.0, self.name, HashMatch(bank, *match)))
        return findings


def _digests(image: Image) -> list[bytes]:
    """Return the SHA-256 and MD5 of the file that the image was decoded from, if they are known."""
    try:
        return [bytes.fromhex(image.info[key]) for key in ("sha256", "md5") if key in image.info]
    except (TypeError, ValueError):
        return []


def _checked(option: str, value: int, maximum: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= maximum:
        raise FilterError(f"{option} is {value!r}; give a whole number from 0 to {maximum}.")
    return value


def _watch(lists: Mapping[str, str] | Sequence[str | Path] | str | Path) -> dict[str, _WatchedList]:
    """Return the lists by bank, which is the name of the file without its suffix."""
    if isinstance(lists, str | Path):
        lists = [lists]
    labels = lists if isinstance(lists, Mapping) else dict.fromkeys(lists, "csae")
    known = load_taxonomy().categories
    watched: dict[str, _WatchedList] = {}
    for file, label in labels.items():
        path = Path(file)
        if label not in known:  # the policy would ignore its findings
            raise FilterError(f"{path}: {unknown_name('category', label, known)}")
        if path.stem in watched:
            raise FilterError(f'two lists have the name "{path.stem}"; rename one of them.')
        watched[path.stem] = _WatchedList(path, label)
    if not watched:
        raise FilterError("there is no list of known images; give at least one.")
    return watched
