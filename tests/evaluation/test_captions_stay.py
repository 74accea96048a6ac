"""Captions are personal data: a cleaning writes none of them unless that is asked for."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from pyarrow import parquet

from safelight.errors import FilterError
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.safe_training.cleaning import Cleaning, shards_of
from safelight.safe_training.cleaning.captions import quotes
from safelight.safe_training.cleaning.sample import Shard
from safelight.safe_training.cleaning.worker import Task
from safelight.safe_training.report import draw_audit, read_audit, write_report
from safelight.types import Finding
from screens import POLICY, RED, Colours, encoded

# One word of each caption that is nowhere else.
SECRETS = [f"zebra{number}" for number in range(20)]


class _Quotes:
    """Fails at some captions with a message that quotes them."""

    name, version, labels = "lexicon", "1", frozenset({"gun"})

    def find(self, prompts: Sequence[str]) -> list[list[Finding] | FilterError]:
        return [FilterError(f"cannot read {each!r}") if "0" in each else [] for each in prompts]


def _screens(policy: Path) -> Guard:
    return Guard(Policy.load(policy), {"prompt": [_Quotes], "image": [Colours]})


def _here(task: Task, shards: Mapping[int, Shard], tell: Callable[[int, int], None]) -> None:
    screening = task.screening()
    for number, shard in shards.items():
        for done in screening.screen(number, shard):
            tell(number, done)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "colours.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture(scope="module")
def cleaned(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with half of its captions in a table and half in files beside the images."""
    data, out = (tmp_path_factory.mktemp(name) for name in ("data", "out"))
    rows = []
    for number, secret in enumerate(SECRETS):
        (data / f"{number:02}.png").write_bytes(encoded(RED if number % 3 == 0 else (0, 200, 0), 8 + number))
        if number % 2:
            rows.append({"file_name": f"{number:02}.png", "text": f"a nurse with {secret}"})
        else:
            (data / f"{number:02}.txt").write_text(f"a nurse with {secret}")
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    cleaning = Cleaning(out)
    cleaning.screen(partial(shards_of, str(data)), partial(_screens, policy), {}, _here)
    tally = cleaning.sort(Policy.load(policy), out)
    write_report(cleaning, tally, out)
    draw_audit(cleaning, out, 20, 20)
    return out


def _texts(path: Path) -> str:
    """Return the uncompressed content of a file."""
    if path.suffix == ".parquet":
        return str(parquet.read_table(path).to_pylist())
    return path.read_bytes().decode("utf-8", "replace")


def test_no_file_has_any_caption(cleaned: Path) -> None:
    files = [path for path in cleaned.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"plan.jsonl", "report.html", "audit.html", "rejected.parquet"}
    for path in files:
        assert not [secret for secret in SECRETS if secret in _texts(path)], path.name
    details = [row["detail"] for row in parquet.read_table(cleaned / "rejected.parquet").to_pylist()]
    assert "a filter failed; its message is not kept, as it may quote the caption." in details


def test_captions_can_be_asked_for_and_then_the_page_is_private(
    cleaned: Path, policy: Path, tmp_path: Path
) -> None:
    cleaning, before = Cleaning(cleaned), os.umask(0)
    try:
        tally = cleaning.sort(Policy.load(policy), tmp_path)
        report = write_report(cleaning, tally, tmp_path, include_captions=True)
        draw_audit(cleaning, tmp_path, 20, 20, include_captions=True)
    finally:
        os.umask(before)
    assert any(secret in report.read_text() for secret in SECRETS)
    audit = tmp_path / "audit.html"
    assert "together with its caption" in audit.read_text()
    assert any(secret in audit.read_text() for secret in SECRETS)
    if os.name == "posix":
        assert {stat.S_IMODE(path.stat().st_mode) for path in (report, audit)} == {0o600}
        assert stat.S_IMODE((tmp_path / "rejected.parquet").stat().st_mode) == 0o666
    write_report(cleaning, tally, tmp_path)
    assert not any(secret in report.read_text() for secret in SECRETS)


def test_labels_need_no_captions(cleaned: Path) -> None:
    ids = [line.split(",")[0] for line in (cleaned / "audit.csv").read_text().splitlines()[1:]]
    labels = cleaned / "labels.csv"
    labels.write_text("id,label\n" + "".join(f"{name},harmless\n" for name in ids))
    assert read_audit(Cleaning(cleaned), cleaned, labels).groups
    labels.unlink()


@pytest.mark.parametrize(
    ("sentence", "caption", "quoted"),
    [
        ("the filter failed: it was late.", "a dog with this hat", False),
        ("cannot read 'A Nurse'.", "a nurse", True),
        ("cannot read 'a cat'.", "a cat", True),
        ("cannot read a category.", "a cat", False),
        ("late.", "", False),
        ("late.", "!?", False),
    ],
)
def test_what_quotes_a_caption(sentence: str, caption: str, quoted: bool) -> None:
    assert quotes(sentence, caption) is quoted
