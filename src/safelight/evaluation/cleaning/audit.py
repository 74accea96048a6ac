"""The audit of a cleaning: people look at a sample, and what they say bounds the rest."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.errors import RequestError
from safelight.evaluation.cleaning.thumbnail import caption_of, thumbnail
from safelight.evaluation.rates import Rate, upper_bound
from safelight.models.files import file_sha256
from safelight.storage.atomic_write import write_text
from safelight.web_page import load_template, render_page

if TYPE_CHECKING:
    from safelight.alignment.training_data import Cleaning
    from safelight.alignment.training_data.sample import Sample

PAGE, LABELS, RESULT = "audit.html", "audit.csv", "audit.json"
_FOLDER = Path(__file__).parent
_HARMFUL, _HARMLESS = "harmful", "harmless"


@dataclass(frozen=True, slots=True)
class Audit:
    """What people said of a sample of what stays, and of one of what goes as harmful.

    ``residual`` is how many that stay are harmful, of those that were looked at, and ``bound`` the exact
    one-sided 95 % bound on their share. ``rejected_harmless`` is how many that go are harmless. ``groups``
    has for each group of captions the same two.
    """

    residual: Rate | None
    rejected_harmless: Rate | None
    groups: Mapping[str, tuple[Rate | None, Rate | None]]

    @property
    def bound(self) -> float | None:
        return upper_bound(self.residual.k, self.residual.n) if self.residual else None

    def told(self) -> str:
        """For people."""
        said = []
        if self.residual and self.bound is not None:
            seen = f"{self.residual.k} of {self.residual.n} that stay are harmful"
            said.append(f"{seen}: with 95 % confidence no more than {100 * self.bound:.2g} % of all.")
        if self.rejected_harmless:
            said.append(f"{self.rejected_harmless.k} of {self.rejected_harmless.n} that go are harmless.")
        return " ".join(said)

    def to_dict(self) -> dict[str, Any]:
        def told(rate: Rate | None) -> dict[str, Any] | None:
            return rate.to_dict() if rate else None

        return {
            "residual": told(self.residual),
            "bound": self.bound,
            "rejected_harmless": told(self.rejected_harmless),
            "groups": {
                name: {"residual": told(kept), "rejected_harmless": told(gone)}
                for name, (kept, gone) in self.groups.items()
            },
        }


def draw_audit(
    cleaning: Cleaning, out: Path, kept: int, rejected: int, seed: int = 0, include_captions: bool = False
) -> int:
    """Draws so many samples of those that stay and of those that go as harmful in ``out``, shuffled, and
    writes a page that takes labels and a table for whoever prefers one. Gives how many there are.

    The page does not say which are which. Captions are personal: only with ``include_captions`` has it any,
    and then its owner alone may read it. Raises ``RequestError`` if labels are there already.
    """
    rng = random.Random(seed)
    ids = _drawn(_kept(out), kept, rng) + _drawn(_rejected(out), rejected, rng)
    rng.shuffle(ids)
    table = out / LABELS
    if table.exists() and any(label for _, label in _labels(table)):
        raise RequestError(f"{table} has labels in it; give it with --labels, or move it away.")
    found = {sample.id: sample for sample in cleaning.samples(set(ids))}
    cards = [_card(found[each], include_captions) for each in ids if each in found]
    together = " together with its caption" if include_captions else ""
    body = load_template(_FOLDER / "audit.html").substitute(
        cards="\n".join(cards), count=len(cards), together=together
    )
    style = (_FOLDER / "cleaning.css").read_text("utf-8")
    write_text(out, PAGE, render_page("Safelight: audit", style, body), include_captions)
    rows = io.StringIO()
    csv.writer(rows).writerows([("id", "label"), *((each, "") for each in ids)])
    write_text(out, LABELS, rows.getvalue())
    return len(cards)


def read_audit(cleaning: Cleaning, out: Path, labels: Path) -> Audit:
    """What the labels say of the cleaning in ``out``; kept there too. Samples without a label do not count.

    Raises ``RequestError`` for a label that is neither, an id that is not of this cleaning, and no labels.
    """
    said = {name: label for name, label in _labels(labels) if label}
    for name, label in said.items():
        if label not in (_HARMFUL, _HARMLESS):
            raise RequestError(f'{labels}: "{label}" is no label; give {_HARMFUL} or {_HARMLESS} for {name}.')
    kept, gone = ({name for name in names if name in said} for names in (_kept(out), _rejected(out)))
    if foreign := next((name for name in said if name not in kept | gone), None):
        raise RequestError(
            f'{labels}: "{foreign}" neither stays nor is harmful in {out}; which audit is it of?'
        )
    if not said:
        raise RequestError(f"{labels} has no labels in it yet.")
    groups = cleaning.groups(said.keys())

    def rates(names: Sequence[str]) -> tuple[Rate | None, Rate | None]:
        return (
            _rate([said[name] == _HARMFUL for name in names if name in kept]),
            _rate([said[name] == _HARMLESS for name in names if name in gone]),
        )

    every = sorted({group for mine in groups.values() for group in mine})
    by_group = {group: rates([name for name in said if group in groups[name]]) for group in every}
    audit = Audit(*rates(list(said)), by_group)
    told = {"kept_sha256": _kept_sha256(out), **audit.to_dict()}
    write_text(out, RESULT, json.dumps(told, indent=2) + "\n")
    return audit


def audited(out: Path) -> dict[str, Any] | None:
    """What an audit said of exactly what stays now."""
    path = out / RESULT
    told = dict(json.loads(path.read_text())) if path.exists() else {}
    return told if told.get("kept_sha256") == _kept_sha256(out) else None


def _kept_sha256(out: Path) -> str:
    from safelight.alignment.training_data.manifest import KEPT

    return file_sha256(out / KEPT)


def _rate(outcomes: Sequence[bool]) -> Rate | None:
    return Rate.of(outcomes) if outcomes else None


def _kept(out: Path) -> Iterator[str]:
    from safelight.alignment.training_data.manifest import KEPT

    return (row["id"] for row in _rows(out / KEPT, ["id"]))


def _rejected(out: Path) -> Iterator[str]:
    """Those that are harmful; what is unreadable nobody can look at."""
    from safelight.alignment.training_data.decision import HARMFUL
    from safelight.alignment.training_data.manifest import REJECTED

    return (row["id"] for row in _rows(out / REJECTED, ["id", "reason"]) if row["reason"] == HARMFUL)


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    from safelight.alignment.training_data.row_file import rows_in

    if not path.exists():
        raise RequestError(f"{path.parent} has no manifests in it; give a folder that safelight clean wrote.")
    yield from rows_in(path, columns)


def _drawn(ids: Iterator[str], count: int, rng: random.Random) -> list[str]:
    """So many of them, each with the same chance, in one pass (Vitter 1985, algorithm R)."""
    drawn: list[str] = []
    for number, each in enumerate(ids):
        if number < count:
            drawn.append(each)
        elif (place := rng.randrange(number + 1)) < count:
            drawn[place] = each
    return drawn


def _labels(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"id", "label"} <= set(rows.fieldnames or ()):
                raise RequestError(f"{path} needs the columns id and label.")
            yield from ((row["id"] or "", (row["label"] or "").strip().lower()) for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path} cannot be read as a table: {error}.") from error


def _card(sample: Sample, include_captions: bool) -> str:
    return load_template(_FOLDER / "card.html").substitute(
        id=escape(sample.id, quote=True),
        image=thumbnail(sample),
        caption=caption_of(sample, include_captions),
    )
