"""Known images: finds those whose hashes are on a list, scaled, re-encoded, turned or mirrored too."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.errors import FilterError, no_such
from safelight.filters.image.hash_lists import HashList
from safelight.hashing.hash_index import MOST_BITS
from safelight.hashing.pdq import LEAST_QUALITY, PdqHasher
from safelight.policy.taxonomy import load_taxonomy
from safelight.registry import register
from safelight.types import Finding, HashMatch

if TYPE_CHECKING:
    from PIL.Image import Image

_logger = logging.getLogger(__name__)


class _WatchedList:
    """A list that is read again when its file changes.

    If the changed file cannot be read, the list stays as it was, which protects better than none, and is
    ``stale`` until the file is good again.
    """

    def __init__(self, path: Path, label: str) -> None:
        self.path = path
        self.label = label
        self.stale = False
        self._lock = threading.Lock()
        self._state = self._look()
        self.hashes = HashList.read(path)

    def current(self) -> HashList:
        """The list as its file has it now; while another thread reads that, as it was before."""
        if self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        return self.hashes

    def _refresh(self) -> None:
        # Looked at before it is read: a change in between is seen the next time.
        if (state := self._look()) == self._state:
            return
        self._state = state
        try:
            self.hashes = HashList.read(self.path)
            self.stale = False
        except FilterError as error:
            self.stale = True
            _logger.warning("the list of known images stays as it was: %s", error)

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


@register("image_filter", "known-image")
class KnownImage:
    """Reports the label of each list that has the image, with the entry that is closest to it.

    ``lists`` maps files to labels, which are categories of harm; lists without labels are csae. An image is
    known if its PDQ hash in any of eight orientations is within ``distance`` (at most 31) bits of a listed
    one, unless its quality is below ``quality``; or if the file that it was decoded from has a listed
    SHA-256 or MD5, which ``image.info`` says under "sha256" and "md5". The defaults of both are
    ThreatExchange's: https://github.com/facebook/ThreatExchange/tree/main/pdq#matching

    Raises ``FilterError`` for a list that is missing, malformed or empty.
    """

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"pdqhash": "hashes"}

    def __init__(
        self,
        lists: Mapping[str, str] | Sequence[str | Path] | str | Path,
        distance: int = MOST_BITS,
        quality: int = LEAST_QUALITY,
        name: str = "known-image",
    ) -> None:
        self.name = name
        self._hasher = PdqHasher()
        self._distance = _within("distance", distance, MOST_BITS)
        self._quality = _within("quality", quality, 100)
        self._lists = _watched(lists)
        self.labels = frozenset(each.label for each in self._lists.values())

    @property
    def version(self) -> str:
        """Tells what is on the lists, and whether one of them could not be brought up to date."""
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
    """SHA-256 and MD5 of the file that the image was decoded from, as far as they are known."""
    try:
        return [bytes.fromhex(image.info[key]) for key in ("sha256", "md5") if key in image.info]
    except (TypeError, ValueError):
        return []


def _within(option: str, value: int, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise FilterError(f"{option} is {value!r}; give a whole number from 0 to {most}.")
    return value


def _watched(lists: Mapping[str, str] | Sequence[str | Path] | str | Path) -> dict[str, _WatchedList]:
    """By bank: the name of the file without its ending."""
    if isinstance(lists, str | Path):
        lists = [lists]
    labels = lists if isinstance(lists, Mapping) else dict.fromkeys(lists, "csae")
    known = load_taxonomy().categories
    watched: dict[str, _WatchedList] = {}
    for file, label in labels.items():
        path = Path(file)
        if label not in known:  # nothing would become of its findings
            raise FilterError(f"{path}: {no_such('category', label, known)}")
        if path.stem in watched:
            raise FilterError(f'two lists are called "{path.stem}"; rename one of them.')
        watched[path.stem] = _WatchedList(path, label)
    if not watched:
        raise FilterError("there is no list of known images; give at least one.")
    return watched
