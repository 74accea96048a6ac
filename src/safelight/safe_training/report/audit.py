"""The audit of a cleaning: human labels of a random sample bound the rate of harm in the kept data."""

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
from safelight.evaluation.rates import Rate, upper_bound
from safelight.models.files import file_sha256
from safelight.safe_training.report.thumbnail import caption_of, thumbnail
from safelight.storage.atomic_write import write_text
from safelight.web_page import load_template, render_page

if TYPE_CHECKING:
    from safelight.safe_training.cleaning import Cleaning
    from safelight.safe_training.cleaning.sample import Sample

PAGE, LABELS, RESULT = "audit.html", "audit.csv", "audit.json"
_FOLDER = Path(__file__).parent
_HARMFUL, _HARMLESS = "harmful", "harmless"


@dataclass(frozen=True, slots=True)
class Audit:
    """Results of an audit of kept samples and of samples rejected as harmful.

    ``residual`` is the rate of harmful samples among the labelled kept ones, and ``bound`` the exact
    one-sided 95 % upper bound of that rate. ``rejected_harmless`` is the rate of harmless samples among the
    labelled rejected ones. ``groups`` has both rates for each group of captions.
    """

    residual: Rate | None
    rejected_harmless: Rate | None
    groups: Mapping[str, tuple[Rate | None, Rate | None]]

    @property
    def bound(self) -> float | None:
        return upper_bound(self.residual.k, self.residual.n) if self.residual else None

    def summary(self) -> str:
        """Return the results as sentences."""
        sentences = []
        if self.residual and self.bound is not None:
            counts = f"{self.residual.k} of {self.residual.n} labelled kept samples are harmful"
            bound = f"at most {100 * self.bound:.2g} % of all kept samples are (95 % confidence)"
            sentences.append(f"{counts}; {bound}.")
        if self.rejected_harmless:
            rate = self.rejected_harmless
            sentences.append(f"{rate.k} of {rate.n} labelled rejected samples are harmless.")
        return " ".join(sentences)

    def to_dict(self) -> dict[str, Any]:
        def plain(rate: Rate | None) -> dict[str, Any] | None:
            return rate.to_dict() if rate else None

        return {
            "residual": plain(self.residual),
            "bound": self.bound,
            "rejected_harmless": plain(self.rejected_harmless),
            "groups": {
                name: {"residual": plain(kept), "rejected_harmless": plain(rejected)}
                for name, (kept, rejected) in self.groups.items()
            },
        }


def draw_audit(
    cleaning: Cleaning, out: Path, kept: int, rejected: int, seed: int = 0, include_captions: bool = False
) -> int:
    """Draw samples for an audit of ``out``, write the page to label them, and return their number.

    Draws ``kept`` kept samples and ``rejected`` samples that were rejected as harmful. Writes a web page for
    labelling the shuffled samples, and a table of them; neither shows which samples were kept. Captions are
    personal data: they are shown only with ``include_captions``, and the page is then readable by its owner
    only. Raises ``RequestError`` if there are labels already.
    """
    rng = random.Random(seed)
    ids = _drawn(_kept(out), kept, rng) + _drawn(_rejected(out), rejected, rng)
    rng.shuffle(ids)
    table = out / LABELS
    if table.exists() and any(label for _, label in _labels(table)):
        raise RequestError(f"{table} has labels in it; give it with --labels, or move it elsewhere.")
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
    """Compute the results of an audit of ``out`` from its labels, and write them to ``out``.

    Samples without a label do not count. Raises ``RequestError`` for an unknown label, for an id that does
    not belong to this cleaning, and if there are no labels.
    """
    label_of = {name: label for name, label in _labels(labels) if label}
    for name, label in label_of.items():
        if label not in (_HARMFUL, _HARMLESS):
            raise RequestError(
                f'{labels}: "{label}" is not a label; give {_HARMFUL} or {_HARMLESS} for {name}.'
            )
    kept, rejected = ({name for name in names if name in label_of} for names in (_kept(out), _rejected(out)))
    if foreign := next((name for name in label_of if name not in kept | rejected), None):
        raise RequestError(
            f'{labels}: "{foreign}" is not among the kept or harmful samples of {out}; give its own labels.'
        )
    if not label_of:
        raise RequestError(f"{labels} has no labels in it yet.")
    groups = cleaning.groups(label_of.keys())

    def rates(names: Sequence[str]) -> tuple[Rate | None, Rate | None]:
        return (
            _rate([label_of[name] == _HARMFUL for name in names if name in kept]),
            _rate([label_of[name] == _HARMLESS for name in names if name in rejected]),
        )

    every = sorted({group for mine in groups.values() for group in mine})
    by_group = {group: rates([name for name in label_of if group in groups[name]]) for group in every}
    audit = Audit(*rates(list(label_of)), by_group)
    result = {"kept_sha256": _kept_sha256(out), **audit.to_dict()}
    write_text(out, RESULT, json.dumps(result, indent=2) + "\n")
    return audit


def audited(out: Path) -> dict[str, Any] | None:
    """Return the results of the audit of ``out``; None if there is no audit of exactly these kept samples."""
    path = out / RESULT
    result = dict(json.loads(path.read_text())) if path.exists() else {}
    return result if result.get("kept_sha256") == _kept_sha256(out) else None


def _kept_sha256(out: Path) -> str:
    from safelight.safe_training.cleaning.manifest import KEPT

    return file_sha256(out / KEPT)


def _rate(outcomes: Sequence[bool]) -> Rate | None:
    return Rate.of(outcomes) if outcomes else None


def _kept(out: Path) -> Iterator[str]:
    from safelight.safe_training.cleaning.manifest import KEPT

    return (row["id"] for row in _rows(out / KEPT, ["id"]))


def _rejected(out: Path) -> Iterator[str]:
    """Yield the ids of samples rejected as harmful; unreadable ones cannot be labelled."""
    from safelight.safe_training.cleaning.decision import HARMFUL
    from safelight.safe_training.cleaning.manifest import REJECTED

    return (row["id"] for row in _rows(out / REJECTED, ["id", "reason"]) if row["reason"] == HARMFUL)


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    from safelight.safe_training.cleaning.row_file import rows_in

    if not path.exists():
        raise RequestError(f"{path.parent} has no manifests in it; give a folder that safelight clean wrote.")
    yield from rows_in(path, columns)


def _drawn(ids: Iterator[str], count: int, rng: random.Random) -> list[str]:
    """Draw ``count`` ids uniformly in one pass (reservoir sampling; Vitter 1985, algorithm R)."""
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
