"""Screening one shard with the filters of a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from safelight.hashing.pdq import MIN_QUALITY, PdqHasher
from safelight.images import open_image
from safelight.policy import Policy
from safelight.safe_training.cleaning.caption_groups import CaptionGroups
from safelight.safe_training.cleaning.findings import GIVEN_UP, Screened, schema, without_quotes
from safelight.safe_training.cleaning.journal import Journal
from safelight.safe_training.cleaning.row_file import RowFile
from safelight.safe_training.cleaning.sample import BATCH, Sample, Shard
from safelight.types import FilterFindings, Stage

# After this many deaths of workers a batch is screened sample by sample, and after as many more a sample is
# given up.
_DEATHS = 2
# After this many it is reading the shard that kills workers, and not a sample.
HOPELESS = 3 * _DEATHS


class Screens(Protocol):
    """The interface of a guard that cleaning uses, which screens captions, images and pairs of both."""

    @property
    def policy(self) -> Policy: ...
    def find(self, stage: Stage, items: Sequence[Any]) -> list[list[FilterFindings]]: ...

    def versions(self) -> dict[Stage, dict[str, str]]:
        """Return the versions of the filters of each stage that has filters."""
        ...


class ShardScreening:
    """Screens shards; the findings of shard 7 are in ``folder / "000007.parquet"`` once it is complete.

    Batches begin at the same samples however often the work was interrupted, so scores are the same bit for
    bit.
    """

    def __init__(
        self, screens: Screens, folder: Path, groups: CaptionGroups, hasher: PdqHasher | None = None
    ) -> None:
        self._screens = screens
        self._hasher = hasher
        self._groups = groups
        self._stages = screens.versions().keys()
        self._folder = folder

    def screen(self, number: int, shard: Shard) -> Iterator[int]:
        """Screen a shard, yielding the number of samples done; an interrupted shard resumes."""
        path = findings_of(self._folder, number)
        with Journal(journal_of(self._folder, number)) as journal:
            yield from self._screen(shard, journal)
            samples = _write_findings(journal, path)
        journal.path.unlink()
        yield samples

    def _screen(self, shard: Shard, journal: Journal) -> Iterator[int]:
        samples = islice(shard.samples(), journal.rows, None)
        while True:
            batch = list(islice(samples, 1 if _one_by_one(journal) else BATCH))
            if not batch:
                return
            journal.add([each.to_row() for each in self._screened_batch(batch, journal)])
            yield journal.rows

    def _screened_batch(self, batch: Sequence[Sample], journal: Journal) -> list[Screened]:
        alone = journal.rows % BATCH != 0
        if journal.deaths >= (_DEATHS if alone else 2 * _DEATHS):
            why = "it crashes the program that screens it."
            return [Screened(batch[0].id, batch[0].key, problem=why)]
        return self.screen_samples(batch)

    def screen_samples(self, samples: Sequence[Sample]) -> list[Screened]:
        """Return the findings of every filter in each sample."""
        whole = [each for each in samples if each.image is not None and not each.problem]
        images = self._found("image", whole, [each.image for each in whole])
        captioned = [each for each in whole if each.caption and each.caption.strip()]
        prompts = self._found("prompt", captioned, [each.caption for each in captioned])
        readable = [each for each in captioned if not _problem(images.get(each.id, ()))]
        pairs = self._found("pair", readable, [(each.caption, each.image) for each in readable])
        by_stage: dict[Stage, dict[str, tuple[FilterFindings, ...]]] = {
            "prompt": prompts,
            "image": images,
            "pair": pairs,
        }
        return [self._screened(each, by_stage) for each in samples]

    def _screened(
        self, sample: Sample, by_stage: dict[Stage, dict[str, tuple[FilterFindings, ...]]]
    ) -> Screened:
        groups = tuple(self._groups.of(sample.caption)) if sample.caption else None
        if sample.image is None or sample.problem:
            why = sample.problem or "there is no image."
            return Screened(sample.id, sample.key, problem=why, groups=groups)
        found = {
            stage: tuple(
                each if stage == "image" else without_quotes(each, sample.caption or "")
                for each in mine[sample.id]
            )
            for stage, mine in by_stage.items()
            if sample.id in mine
        }
        if problem := next(filter(None, map(_problem, found.values())), None):
            return Screened(sample.id, sample.key, problem=problem, groups=groups)
        digest = sha256(sample.image).hexdigest()
        return Screened(sample.id, sample.key, digest, None, found, self._pdq(sample.image), groups)

    def _pdq(self, image: bytes) -> str | None:
        """Return the PDQ hash of the first frame; None if it is not wanted or not reliable."""
        first = next(iter(open_image(image)), None) if self._hasher else None
        if self._hasher is None or first is None:
            return None
        hashed = self._hasher(first)
        return hashed.hex if hashed.quality >= MIN_QUALITY else None

    def _found(
        self, stage: Stage, samples: Sequence[Sample], items: Sequence[Any]
    ) -> dict[str, tuple[FilterFindings, ...]]:
        if stage not in self._stages or not items:
            return {}
        found = self._screens.find(stage, items)
        return {each.id: tuple(mine) for each, mine in zip(samples, found, strict=True)}


def give_up(folder: Path, number: int, shard: Shard) -> int:
    """Finish a shard at which workers keep dying, and return its number of samples.

    Samples screened so far are kept; one unreadable sample stands for the rest.
    """
    with Journal(journal_of(folder, number)) as journal:
        name = f"{shard.name}#{journal.rows}"
        journal.add([Screened(name, name, problem=GIVEN_UP).to_row()])
        samples = _write_findings(journal, findings_of(folder, number))
    journal.path.unlink()
    return samples


def _write_findings(journal: Journal, path: Path) -> int:
    with RowFile.writing(path, schema()) as file:
        for row in journal.read():
            file.add(row)
    return file.written


def findings_of(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.parquet"


def journal_of(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.jsonl"


def _one_by_one(journal: Journal) -> bool:
    return journal.rows % BATCH != 0 or journal.deaths >= _DEATHS


def _problem(found: Sequence[FilterFindings]) -> str | None:
    """Return the first reason why something could not be read, if any."""
    return next((each.problem for each in found if each.problem), None)
