"""Text in images: what is written there is read, and judged by prompt filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from safelight import registry
from safelight.concurrency.thread_map import ThreadMap
from safelight.errors import FilterError
from safelight.filters.image.options import check_share, check_threads
from safelight.filters.image.passages import Passage, passages
from safelight.filters.image.text_line import box_around
from safelight.filters.image.text_reader import MODULES, TextReader
from safelight.protocols import PromptFilter
from safelight.registry import register
from safelight.types import Box, Finding

UNREAD = "unread_text"
# Longer passages are judged in parts. The prompt filters refuse prompts of more tokens than this can have.
_LENGTH = 400
# A passage with fewer letters and digits says nothing.
_LEAST_LETTERS = 2


@register("image_filter", "ocr")
class Ocr:
    """Reads the text in an image, and reports what prompt filters find in it.

    ``filters`` are the names of the prompt filters that judge the text, with their default options. Their
    labels and scores are reported with the box around the lines in question. Lines are joined where they
    belong together. Lines that are recognised with less than ``confidence`` are left out. At most ``lines``
    lines of an image are read, the largest first; if there are more, the label ``unread_text`` is reported
    with the box around the rest. ``threads`` is the number of threads, by default one per CPU core.

    Raises ``MissingExtraError`` if rapidocr is not installed, ``ModelError`` if one of its networks was
    altered, ``RegistryError`` for an unknown prompt filter, and ``FilterError`` for invalid options. An image
    that cannot be read is blocked, and so is one whose text a prompt filter refuses.
    https://github.com/RapidAI/RapidOCR
    """

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        return dict.fromkeys(MODULES, "images")

    def __init__(
        self,
        filters: Sequence[str] = ("lexicon", "child-safety", "classifier"),
        confidence: float = 0.6,
        lines: int = 64,
        threads: int | None = None,
        name: str = "ocr",
    ) -> None:
        _check(filters, confidence, lines, threads)
        self.name = name
        self._reader = TextReader(confidence, lines)
        self._filters: list[PromptFilter] = [registry.build("prompt_filter", each) for each in filters]
        versions = (f"{each.name} {each.version}" for each in self._filters)
        self.version = ", ".join((self._reader.version, *versions))
        self._map = ThreadMap(threads)
        labels = [getattr(each, "labels", None) for each in self._filters]
        known = [each for each in labels if each is not None]
        self.labels = frozenset({UNREAD}.union(*known)) if len(known) == len(labels) else None

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        """Process images one by one on several threads."""
        return self._map(self._findings, images)

    def _findings(self, image: Image.Image) -> list[Finding] | FilterError:
        try:
            rgb = image if image.mode == "RGB" else image.convert("RGB")
            read = self._reader.read(rgb)
            found = self._judged([part for each in passages(read.lines) for part in each.parts(_LENGTH)], rgb)
        except (FilterError, OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, for PNGs
            return FilterError(str(error))
        if read.unread:
            found.append(Finding(UNREAD, 1.0, self.name, box_around(read.unread, image.size)))
        return found

    def _judged(self, parts: Iterable[Passage], image: Image.Image) -> list[Finding]:
        """Return the best finding of each label in each part. Raises ``FilterError`` if a part is refused."""
        parts = [part for part in parts if sum(map(str.isalnum, part.text)) >= _LEAST_LETTERS]
        best: dict[tuple[str, Box], float] = {}
        for each in self._filters if parts else ():
            for part, answer in zip(parts, each.find([part.text for part in parts]), strict=True):
                if isinstance(answer, FilterError):
                    raise FilterError(f'the prompt filter "{each.name}" could not judge its text: {answer}')
                for finding in answer:
                    key = finding.label, box_around(part.lines, image.size)
                    best[key] = max(finding.score, best.get(key, 0.0))
        return [Finding(label, score, self.name, box) for (label, box), score in best.items()]


def _check(filters: Sequence[str], confidence: float, lines: int, threads: int | None) -> None:
    if isinstance(filters, str) or not filters:
        raise FilterError(f"filters is {filters!r}; give a list of the names of prompt filters.")
    check_share("confidence", confidence)
    if lines < 1:
        raise FilterError(f"lines is {lines}; it must be at least 1.")
    check_threads(threads)
