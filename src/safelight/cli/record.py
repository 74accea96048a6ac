"""Records: the results of ``safelight screen``, one for each item."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli.item import Item, Kind
from safelight.types import Action, Verdict

if TYPE_CHECKING:
    from safelight.guard.guard import Guard

_BATCH = {"prompt": 64, "image": 16, "pair": 16, "problem": 64}
# Larger image files are not hashed; filters refuse them too.
_LARGEST_IMAGE = 1 << 26
_KEYS = ("action", "score", "categories", "findings", "policy", "elapsed_ms")


@dataclass(frozen=True, slots=True)
class Record:
    """An item and its verdict; the verdict is None, which counts as a block, if it could not be read."""

    item: Item
    policy: str
    verdict: Verdict | None

    @property
    def action(self) -> Action:
        return self.verdict.action if self.verdict else Action.BLOCK

    @property
    def failed(self) -> bool:
        """Whether the item could not be read, or a filter could not screen it."""
        return self.verdict is None or bool(self.verdict.reasons)

    @property
    def why(self) -> str:
        return self.verdict.explain().partition(": ")[2] if self.verdict else str(self.item.value)

    def to_dict(self, explain: bool = False) -> dict[str, Any]:
        """Return the record as JSON-ready data, with "error" for an item that could not be read or screened.

        Prompts appear as hashes only; ``explain`` adds the words that filters found.
        """
        verdict = self.verdict.to_dict() if self.verdict else _unread(self.policy)
        if not explain:
            verdict["findings"] = [_without_words(finding) for finding in verdict["findings"]]
        reasons = self.verdict.reasons if self.verdict else (str(self.item.value),)
        error = {"error": " ".join(reasons)} if reasons else {}
        frame = {"frame": verdict["frame"]} if verdict["frame"] else {}
        return {**names_of(self.item), **{key: verdict[key] for key in _KEYS}, **frame, **error}


def names_of(item: Item) -> dict[str, Any]:
    """Return the keys that identify an item in its record: its position and hashes of prompt and image."""
    names = dict(item.key)
    prompt = item.value[0] if item.kind == "pair" else item.value
    if item.kind in ("prompt", "pair") and isinstance(prompt, str):
        names["prompt_sha256"] = sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
    path = item.value[1] if item.kind == "pair" else item.value
    if item.kind in ("image", "pair") and (digest := _file_digest(path)):
        names["image_sha256"] = digest
    return names


def _file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it is too large or cannot be read, which its record reports."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_IMAGE:
            return None
        return sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):  # a path in JSONL may be any text
        return None


def _without_words(finding: dict[str, Any]) -> dict[str, Any]:
    words = (finding["evidence"] or {}).get("type") == "span"
    return {**finding, "evidence": None} if words else finding


def screened(guard: Guard, items: Iterable[Item]) -> Iterator[Record]:
    """Yield one record for each item, in order, reading items lazily."""
    screens: dict[Kind, Callable[[list[Any]], list[Verdict]]] = {
        "prompt": guard.screen_prompts,
        "image": guard.screen_images,
        "pair": guard.screen_pairs,
    }
    for kind, group in groupby(items, key=lambda item: item.kind):
        while batch := list(islice(group, _BATCH[kind])):
            screen = screens.get(kind)
            verdicts = screen([item.value for item in batch]) if screen else [None] * len(batch)
            yield from (Record(item, guard.policy.id, v) for item, v in zip(batch, verdicts, strict=True))


def _unread(policy: str) -> dict[str, Any]:
    blocked = Verdict("prompt", Action.BLOCK, {}, (), policy, 0.0)
    return {**blocked.to_dict(), "score": 1.0}
