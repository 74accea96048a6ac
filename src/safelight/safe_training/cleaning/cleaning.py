"""Cleaning of a data set: every sample is screened once, and then kept or rejected by a policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import MissingExtraError, RequestError
from safelight.models.files import file_sha256
from safelight.policy import Policy
from safelight.safe_training.cleaning.caption_groups import CaptionGroups
from safelight.safe_training.cleaning.copies import copy_samples
from safelight.safe_training.cleaning.decision import Decision, decide, duplicate
from safelight.safe_training.cleaning.duplicates import Duplicates, first_of
from safelight.safe_training.cleaning.findings import Screened
from safelight.safe_training.cleaning.manifest import KEPT, REJECTED, write_manifests
from safelight.safe_training.cleaning.plan import count_shards, read_plan, write_plan
from safelight.safe_training.cleaning.row_file import count_rows, rows_in
from safelight.safe_training.cleaning.sample import Sample, Shard, examples
from safelight.safe_training.cleaning.shard_screening import Screens, findings_of
from safelight.safe_training.cleaning.tally import Tally
from safelight.safe_training.cleaning.worker import Task
from safelight.storage.atomic_write import write_errors, write_text
from safelight.training.encoded import Data
from safelight.types import Action

# A function that screens the numbered shards with workers, and reports the number of samples done in each.
Engine = Callable[[Task, Mapping[int, Shard], Callable[[int, int], None]], None]

_SETTINGS, _PLAN, _FINDINGS, _SUMMARY = "settings.json", "plan.jsonl", "findings", "summary.json"
_FILTERS, _HASHED, _SCREENED = "filters", "hashed", "screened"


@dataclass(frozen=True)
class Cleaning:
    """A cleaning of a data set, with its findings in a folder: ``screen`` writes them, ``sort`` reads them.

    An interrupted run resumes where it stopped.
    """

    folder: Path

    @classmethod
    def of(cls, out: Path) -> Cleaning:
        """Return the cleaning that ``sort`` wrote to ``out``. Raises ``RequestError`` if there is none."""
        path = out / _SUMMARY
        if not path.exists():
            raise RequestError(f"{out} has no cleaned data in it; give a folder that safelight clean wrote.")
        return cls(Path(str(_object_in(path).get(_SCREENED))))

    def screen(
        self,
        shards: Callable[[], Sequence[Shard]],
        screens: Callable[[], Screens],
        settings: Mapping[str, Any],
        engine: Engine,
        progress: Callable[[int], None] = lambda _: None,
        groups: CaptionGroups | None = None,
        hashed: bool = False,
    ) -> None:
        """Screen every sample of ``shards`` with the filters of ``screens``, which each worker builds.

        ``settings`` describe the data and how it is read. Samples are also counted by ``groups`` of captions.
        With ``hashed``, perceptual hashes of the images are stored, to find near duplicates. Raises
        ``RequestError`` if the folder has findings of other settings, or if another program writes to it.
        """
        with self._locked():
            mine, caption_groups = screens(), groups or CaptionGroups.load()
            how = {_FILTERS: _filters(mine.policy), "versions": mine.versions()}
            how |= {"groups": caption_groups.to_settings(), _HASHED: hashed}
            self._check_settings({**settings, **how})
            plan = self._planned(shards)
            findings = self.folder / _FINDINGS
            findings.mkdir(exist_ok=True)
            there = {number: findings_of(findings, number) for number in range(len(plan))}
            done = {number: count_rows(path) if path.exists() else 0 for number, path in there.items()}
            left = {number: shard for number, shard in enumerate(plan) if not there[number].exists()}

            def counted(number: int, samples: int) -> None:
                done[number] = samples
                progress(sum(done.values()))

            engine(Task(screens, findings.absolute(), caption_groups, hashed), left, counted)

    def sort(
        self,
        policy: Policy,
        out: Path,
        reject_from: Action = Action.REVIEW,
        duplicates: Duplicates = Duplicates.KEEP,
    ) -> Tally:
        """Apply ``policy`` to the findings, write the manifests to ``out``, and return the counts.

        Samples whose action is ``reject_from`` or more severe are rejected. Raises ``RequestError`` if shards
        are not screened yet, if they were screened with other filters than the policy's, or if ``duplicates``
        is for near duplicates and the images were not hashed.
        """
        self._files()
        if reject_from is Action.ALLOW:
            raise RequestError("with allow every sample would be rejected; give a more severe action.")
        settings = self._settings() or {}
        if settings.get(_FILTERS) != _filters(policy):
            raise RequestError(
                f'the policy "{policy.name}" has other filters than those that screened the data; '
                "clean it again."
            )
        if duplicates is Duplicates.NEAR and not settings.get(_HASHED):
            raise RequestError("the images were not hashed; clean the data again with --duplicates near.")
        with write_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            tally = write_manifests(out, self._decided(policy, reject_from, duplicates), policy.id)
            summary = {"policy": policy.id, _SCREENED: str(self.folder.absolute()), **tally.summary()}
            write_text(out, _SUMMARY, json.dumps(summary, indent=2) + "\n")
        return tally

    def copy(self, out: Path, kept: bool, progress: Callable[[int], None] = lambda _: None) -> Path:
        """Copy the kept samples that ``sort`` listed in ``out`` to ``out / "clean"``, and return that folder.

        If ``kept`` is false, the rejected samples are copied to ``out / "quarantine"``. The copy has the same
        shards as the data; ``progress`` is called with the number of shards done. An interrupted copy
        resumes. Raises ``RequestError`` for a folder without manifests.
        """
        manifest = out / (KEPT if kept else REJECTED)
        ids, folder = self._ids(manifest), out / ("clean" if kept else "quarantine")
        with write_errors(out):
            copy_samples(read_plan(self.folder / _PLAN), ids, folder, file_sha256(manifest), progress)
        return folder

    def kept(self, out: Path) -> Iterator[Sample]:
        """Yield the kept samples that ``sort`` listed in ``out``, read again from the data, in order.

        Raises ``RequestError`` for a folder without manifests.
        """
        ids = self._ids(out / KEPT)
        for number, shard in enumerate(read_plan(self.folder / _PLAN)):
            mine = ids(number)
            yield from (sample for sample in shard.samples() if sample.id in mine)

    def training(self, out: Path) -> Data:
        """Return the kept samples that have an image and a caption, as training data; raises as ``kept``."""
        samples = self.kept(out)
        self._ids(out / KEPT)
        return Data(examples(samples), file_sha256(out / KEPT))

    def _ids(self, manifest: Path) -> Callable[[int], Set[str]]:
        """Return a function from a shard's number to its ids in the manifest, to be called in order."""
        files = self._files()
        if not manifest.exists():
            raise RequestError(f"{manifest.parent} has no manifests in it; sort the data first.")
        listed = (row["id"] for row in rows_in(manifest, ["id"]))
        following = next(listed, None)

        def ids(number: int) -> Set[str]:
            nonlocal following
            mine = set()
            for row in rows_in(files[number], ["id"]):
                if row["id"] == following:
                    mine.add(following)
                    following = next(listed, None)
            return mine

        return ids

    def samples(self, ids: Set[str]) -> Iterator[Sample]:
        """Yield the samples with these ids in order, read again from the data.

        Samples that are missing by now have a problem or are left out.
        """
        plan = read_plan(self.folder / _PLAN)
        for number, path in enumerate(self._files()):
            left = {row["id"] for row in rows_in(path, ["id"])} & ids
            for sample in plan[number].samples() if left else ():
                if sample.id in left:
                    left.remove(sample.id)
                    yield sample
                if not left:
                    break

    def groups(self, ids: Set[str]) -> Mapping[str, Sequence[str]]:
        """Return the groups that the captions of these samples belong to, by id."""
        rows = (row for path in self._files() for row in rows_in(path, ["id", "groups"]))
        return {row["id"]: row["groups"] or () for row in rows if row["id"] in ids}

    def screened(self) -> Iterator[Screened]:
        """Yield all samples in order. Raises ``RequestError`` if some are not screened or share an id."""
        for path in self._files():
            seen: set[str] = set()
            for row in rows_in(path):
                if row["id"] in seen:
                    raise RequestError(f'two samples have the id "{row["id"]}"; give each its own name.')
                seen.add(row["id"])
                yield Screened.of_row(row)

    def _decided(
        self, policy: Policy, reject_from: Action, duplicates: Duplicates
    ) -> Iterator[tuple[Screened, Decision]]:
        def decided() -> Iterator[tuple[Screened, Decision]]:
            return ((each, decide(each, policy, reject_from)) for each in self.screened())

        kept = ((i, each) for i, (each, made) in enumerate(decided()) if made.rejection is None)
        firsts = first_of(kept, duplicates)
        for number, (each, made) in enumerate(decided()):
            yield each, duplicate(made, firsts[number]) if number in firsts else made

    def _files(self) -> list[Path]:
        count = self._count()
        files = [findings_of(self.folder / _FINDINGS, number) for number in range(count)]
        if missing := sum(not path.exists() for path in files):
            raise RequestError(
                f"{missing} of {count} shards were not screened yet; run the same command again."
            )
        return files

    def _planned(self, shards: Callable[[], Sequence[Shard]]) -> Sequence[Shard]:
        path = self.folder / _PLAN
        if not path.exists():
            write_plan(path, shards())
        return read_plan(path)

    def _count(self) -> int:
        path = self.folder / _PLAN
        if not path.exists():
            raise RequestError(
                f"{self.folder} has no findings in it; give a folder that safelight clean wrote."
            )
        return count_shards(path)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        before = self._settings()
        if before is None:
            write_text(self.folder, _SETTINGS, json.dumps(settings, indent=2) + "\n")
            return
        changed = sorted(
            key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key)
        )
        if changed:
            raise RequestError(
                f"{self.folder} was started with another {' and '.join(changed)}; give another folder."
            )

    def _settings(self) -> dict[str, Any] | None:
        path = self.folder / _SETTINGS
        return _object_in(path) if path.exists() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            from filelock import FileLock, Timeout
        except ImportError as error:
            raise MissingExtraError("Cleaning training data", "data") from error
        try:
            with write_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(self.folder / ".lock", timeout=0):
                    yield
        except Timeout:
            raise RequestError(
                f"another program writes to {self.folder}; wait for it or give another folder."
            ) from None


def _object_in(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestError(f"{path} is damaged; clean the data again into another folder.")
    return value


def _filters(policy: Policy) -> dict[str, Any]:
    """Return the policy's filters, which determine the findings, as JSON-ready data."""
    return dict(policy.filters.model_dump(mode="json"))
