"""The report on a cleaning, and the audit of it by people."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pyarrow import parquet

from safelight.errors import RequestError
from safelight.policy import Policy
from safelight.safe_training.cleaning import Cleaning, run_local, shards_of
from safelight.safe_training.cleaning.tally import Tally
from safelight.safe_training.report import draw_audit, read_audit, write_report
from screens import POLICY, RED, colours, encoded

COUNT = 60


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "colours.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture(scope="module")
def screened(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Cleaning:
    """60 images, every fifth red; captions mention a nurse or have <b>markup</b>; one is not an image."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(COUNT):
        (folder / f"{i:02}.png").write_bytes(encoded(RED if i % 5 == 0 else (0, 200, 0), 8 + i))
        (folder / f"{i:02}.txt").write_text("a nurse" if i % 10 == 0 else "a <b>dog</b>")
    (folder / "59.png").write_bytes(b"no image")
    cleaning = Cleaning(tmp_path_factory.mktemp("cleaned"))
    engine = partial(run_local, workers=1)
    cleaning.screen(
        partial(shards_of, str(folder)),
        partial(colours, policy),
        {},
        lambda task, shards, progress: engine(task, shards, progress=progress),
    )
    return cleaning


def _sorted(screened: Cleaning, policy: Path, out: Path) -> Tally:
    return screened.sort(Policy.load(policy), out)


def _label(out: Path, harmful: Mapping[str, bool]) -> Path:
    with (out / "audit.csv").open(newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    with (out / "labelled.csv").open("w", newline="") as file:
        rows = [(name, "harmful" if harmful.get(name, False) else "harmless") for name in ids]
        csv.writer(file).writerows([("id", "label"), *rows])
    return out / "labelled.csv"


def test_the_numbers_of_a_cleaning(screened: Cleaning, policy: Path, tmp_path: Path) -> None:
    tally = _sorted(screened, policy, tmp_path)
    assert tally.reasons == {"kept": 47, "harmful": 12, "unreadable": 1}
    assert tally.found == {("violence", "colours"): 12}
    gone, kept = tally.scores["violence"]
    assert (sum(gone), sum(kept), gone[int(200 / 255 * 20)]) == (12, 0, 12)
    assert tally.groups == {"medicine": [6, 6]}
    assert tally.captioned == [59, 12]
    assert tally.examples["violence"] == [f"{i:02}.png" for i in range(0, 30, 5)]


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.images: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in {"meta", "img", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data


def test_a_report_needs_nothing_else_and_hides_its_images(
    screened: Cleaning, policy: Path, tmp_path: Path
) -> None:
    tally = _sorted(screened, policy, tmp_path)
    html = write_report(screened, tally, tmp_path, include_captions=True).read_text()
    page = _Page(html)
    assert not re.search(r"https?:|@import|<link|url\(", html)
    assert "47 of 60 samples are kept under the policy colours 1" in page.text
    assert "Not audited yet" in page.text
    assert "a <b>dog</b>" in page.text
    assert len(page.images) == 6
    assert all(each.startswith("data:image/jpeg;base64,") for each in page.images)
    assert re.search(r"\.veiled img \{[^}]*filter: blur", html)
    assert "checked" not in re.sub(r":checked", "", html)
    row = re.search(r"<td>medicine</td>.*?</tr>", html)
    assert row
    assert re.findall(r">([^<>]+)</td>", row[0])[:3] == ["medicine", "6", "100.0 %"]
    # 6 of 6 against 6 of the other 53.
    assert ">8.8</td>" in row[0]


def test_an_audit_bounds_what_is_left(screened: Cleaning, policy: Path, tmp_path: Path) -> None:
    tally = _sorted(screened, policy, tmp_path)
    assert draw_audit(screened, tmp_path, kept=30, rejected=6) == 36
    page = (tmp_path / "audit.html").read_text()
    assert len(_Page(page).images) == 36
    assert "violence" not in page
    kept = {row["id"] for row in parquet.read_table(tmp_path / "kept.parquet").to_pylist()}
    with (tmp_path / "audit.csv").open() as file:
        drawn = [row["id"] for row in csv.DictReader(file)]
    assert len(kept & set(drawn)) == 30
    assert drawn != sorted(drawn)
    one_left = next(name for name in drawn if name in kept)
    harmful = {name: name not in kept or name == one_left for name in drawn}
    harmless_gone = next(name for name in drawn if name not in kept)
    harmful[harmless_gone] = False
    audit = read_audit(screened, tmp_path, _label(tmp_path, harmful))
    assert (audit.residual.k, audit.residual.n) == (1, 30)  # type: ignore[union-attr]
    assert (audit.rejected_harmless.k, audit.rejected_harmless.n) == (1, 6)  # type: ignore[union-attr]
    # Clopper and Pearson's one-sided bound for 1 of 30, from a table.
    assert audit.bound == pytest.approx(0.1486, abs=5e-4)
    report = write_report(screened, tally, tmp_path).read_text()
    assert "1 of 30 labelled kept samples are harmful" in report
    assert "at most 14.9 %" in report
    _sorted(screened, policy, tmp_path / "other")
    assert "Not audited yet" in write_report(screened, tally, tmp_path / "other").read_text()


def test_every_sample_has_the_same_chance(screened: Cleaning, policy: Path, tmp_path: Path) -> None:
    _sorted(screened, policy, tmp_path)
    drawn: list[str] = []
    for seed in range(40):
        draw_audit(screened, tmp_path, kept=10, rejected=0, seed=seed)
        with (tmp_path / "audit.csv").open() as file:
            drawn += [row["id"] for row in csv.DictReader(file)]
    counts = [drawn.count(name) for name in set(drawn)]
    assert len(counts) == 47
    assert sum(counts) == 400
    # 400 / 47 = 8.5; a deviation of 4.5 times the root of it has a chance of one in 100,000.
    assert all(1 <= count < 22 for count in counts)


def test_invalid_labels(screened: Cleaning, policy: Path, tmp_path: Path) -> None:
    _sorted(screened, policy, tmp_path)
    draw_audit(screened, tmp_path, kept=5, rejected=5)
    with pytest.raises(RequestError, match="no labels in it"):
        read_audit(screened, tmp_path, tmp_path / "audit.csv")
    for text, said in (
        ("id,label\n01.png,maybe", '"maybe" is not a label'),
        ("id,label\nx.png,harmful", '"x.png" is not among the kept'),
        ("id,lable\n", "the columns id and label"),
    ):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(RequestError, match=said):
            read_audit(screened, tmp_path, tmp_path / "labels.csv")
    (tmp_path / "audit.csv").write_text("id,label\n01.png,harmful\n")
    with pytest.raises(RequestError, match="has labels in it"):
        draw_audit(screened, tmp_path, kept=5, rejected=5)
    with pytest.raises(RequestError, match="no manifests"):
        draw_audit(screened, tmp_path / "nowhere", kept=5, rejected=5)


def test_an_audit_of_other_decisions_does_not_count(screened: Cleaning, policy: Path, tmp_path: Path) -> None:
    _sorted(screened, policy, tmp_path)
    draw_audit(screened, tmp_path, kept=5, rejected=5)
    read_audit(screened, tmp_path, _label(tmp_path, {}))
    told = json.loads((tmp_path / "audit.json").read_text())
    assert told["residual"]["k"] == 0
    policy_text = POLICY.replace("review = 0.3, block = 0.6", "block = 0.9")
    (tmp_path / "milder.toml").write_text(policy_text)
    tally = screened.sort(Policy.load(tmp_path / "milder.toml"), tmp_path)
    assert tally.reasons["kept"] == 59
    assert "Not audited yet" in write_report(screened, tally, tmp_path).read_text()
