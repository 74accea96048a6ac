"""Cleaning: every sample of a data set looked at once, and sorted into what stays and what goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safelight.alignment.training_data.caption_groups import CaptionGroups
from safelight.alignment.training_data.copies import copy_samples
from safelight.alignment.training_data.decision import Decision, decide
from safelight.alignment.training_data.findings import Screened
from safelight.alignment.training_data.manifest import KEPT, write_manifests
from safelight.alignment.training_data.plan import count_shards, read_plan, write_plan
from safelight.alignment.training_data.row_file import count_rows, rows_in
from safelight.alignment.training_data.sample import Sample, Shard
from safelight.alignment.training_data.shard_screening import Screens, findings_of
from safelight.alignment.training_data.tally import Tally
from safelight.alignment.training_data.worker import Task
from safelight.errors import MissingExtraError, RequestError, first_line
from safelight.policy import Policy
from safelight.types import Action

# Hands the shards, by number, to workers; told after every batch how far each is.
Engine = Callable[[Task, Mapping[int, Shard], Callable[[int, int], None]], None]

_SETTINGS, _PLAN, _FINDINGS, _SUMMARY = "settings.json", "plan.jsonl", "findings", "summary.json"
_FILTERS = "filters"


@dataclass(frozen=True)
class Cleaning:
    """What was found in a data set, in a folder of its own: ``screen`` fills it, ``sort`` reads it.

    Nothing that was done is done twice: a run that was stopped goes on.
    """

    folder: Path

    def screen(
        self,
        shards: Callable[[], Sequence[Shard]],
        screens: Callable[[], Screens],
        settings: Mapping[str, Any],
        engine: Engine,
        tell: Callable[[int], None] = lambda _: None,
        groups: CaptionGroups | None = None,
    ) -> None:
        """Looks at every sample of ``shards`` with ``screens``, which each worker makes for itself.

        ``settings`` say what is looked at and how; ``groups`` of captions are counted apart. Raises
        ``RequestError`` if the folder has the findings of other settings, or another program writes to it.
        """
        with self._locked():
            mine, counted_apart = screens(), groups or CaptionGroups.load()
            how = {_FILTERS: _filters(mine.policy), "versions": mine.versions()}
            self._check_settings({**settings, **how, "groups": counted_apart.to_settings()})
            plan = self._planned(shards)
            findings = self.folder / _FINDINGS
            findings.mkdir(exist_ok=True)
            there = {number: findings_of(findings, number) for number in range(len(plan))}
            done = {number: count_rows(path) if path.exists() else 0 for number, path in there.items()}
            left = {number: shard for number, shard in enumerate(plan) if not there[number].exists()}

            def counted(number: int, samples: int) -> None:
                done[number] = samples
                tell(sum(done.values()))

            engine(Task(screens, findings.absolute(), counted_apart), left, counted)

    def sort(self, policy: Policy, out: Path, least: Action = Action.REVIEW) -> Tally:
        """Writes the manifests that ``policy`` makes of the findings into ``out``; gives the numbers.

        Raises ``RequestError`` if not all shards were screened, or not with the policy's filters.
        """
        self._files()
        if least is Action.ALLOW:
            raise RequestError("everything would be rejected from allow on; give a severer action.")
        if (self._settings() or {}).get(_FILTERS) != _filters(policy):
            raise RequestError(
                f'the policy "{policy.name}" has other filters than those that looked at the data; '
                "clean it again."
            )
        with _writing(out):
            out.mkdir(parents=True, exist_ok=True)
            tally = write_manifests(out, self._decided(policy, least), policy.id)
            (out / _SUMMARY).write_text(json.dumps({"policy": policy.id, **tally.summary()}, indent=2) + "\n")
        return tally

    def copy(
        self,
        policy: Policy,
        out: Path,
        kept: bool,
        least: Action = Action.REVIEW,
        tell: Callable[[int], None] = lambda _: None,
    ) -> Path:
        """Copies what stays into ``out / "clean"``, or what goes into ``out / "quarantine"``, after ``sort``.

        In shards as they come; told how many are done. A copy that was stopped goes on. Raises
        ``RequestError`` as ``sort``.
        """
        files = self._files()

        def ids(number: int) -> set[str]:
            rows = map(Screened.of_row, rows_in(files[number]))
            return {each.id for each in rows if (decide(each, policy, least).rejection is None) is kept}

        folder = out / ("clean" if kept else "quarantine")
        with _writing(out):
            version = sha256((out / KEPT).read_bytes()).hexdigest()
            copy_samples(read_plan(self.folder / _PLAN), ids, folder, version, tell)
        return folder

    def samples(self, ids: Set[str]) -> Iterator[Sample]:
        """Those with these ids, read again from the data, in order; what is not there any more comes with a
        problem or not at all."""
        plan = read_plan(self.folder / _PLAN)
        for number, path in enumerate(self._files()):
            left = {row["id"] for row in rows_in(path, ["id"])} & ids
            for sample in plan[number].samples() if left else ():
                if sample.id in left:
                    left.remove(sample.id)
                    yield sample
                if not left:
                    break

    def screened(self) -> Iterator[Screened]:
        """Every sample in order. Raises ``RequestError`` if some were not looked at, or two have one id."""
        for path in self._files():
            seen: set[str] = set()
            for row in rows_in(path):
                if row["id"] in seen:
                    raise RequestError(f'two samples have the id "{row["id"]}"; give each a name of its own.')
                seen.add(row["id"])
                yield Screened.of_row(row)

    def _decided(self, policy: Policy, least: Action) -> Iterator[tuple[Screened, Decision]]:
        return ((each, decide(each, policy, least)) for each in self.screened())

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
            (self.folder / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
            return
        changed = sorted(
            key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key)
        )
        if changed:
            raise RequestError(
                f"{self.folder} was begun with another {' and '.join(changed)}; give another folder."
            )

    def _settings(self) -> dict[str, Any] | None:
        path = self.folder / _SETTINGS
        return dict(json.loads(path.read_text())) if path.exists() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            from filelock import FileLock, Timeout
        except ImportError as error:
            raise MissingExtraError("Cleaning training data", "data") from error
        try:
            with _writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(self.folder / ".lock", timeout=0):
                    yield
        except Timeout:
            raise RequestError(
                f"another program writes to {self.folder}; wait for it or give another folder."
            ) from None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A full disk is one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        why = error.strerror or first_line(error)
        raise RequestError(f"{folder} cannot be written: {why}; make room and run it again.") from error


def _filters(policy: Policy) -> dict[str, Any]:
    """What decides about findings, as JSON has it."""
    return dict(policy.filters.model_dump(mode="json"))
