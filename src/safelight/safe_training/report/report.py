"""The report on a cleaning: a web page for the people responsible for the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.evaluation.rates import Rate
from safelight.safe_training.report.audit import audited
from safelight.safe_training.report.thumbnail import caption_of, thumbnail
from safelight.storage.atomic_write import write_text
from safelight.web_page import load_template, render_page

if TYPE_CHECKING:
    from safelight.safe_training.cleaning import Cleaning
    from safelight.safe_training.cleaning.sample import Sample
    from safelight.safe_training.cleaning.tally import Tally

REPORT = "report.html"
_FOLDER = Path(__file__).parent
_WIDTH, _HEIGHT = 720, 80


def write_report(cleaning: Cleaning, tally: Tally, out: Path, include_captions: bool = False) -> Path:
    """Write the report on the cleaning in ``out``, with the results of its audit, and return its path.

    Examples are read again from the data. Captions are personal data: they are shown only with
    ``include_captions``, and the page is then readable by its owner only.
    """
    audit = audited(out)
    named = {name for ids in tally.examples.values() for name in ids}
    samples = {sample.id: sample for sample in cleaning.samples(named)}
    kept = tally.reasons["kept"]
    body = load_template(_FOLDER / "report.html").substitute(
        title="Cleaned data",
        lead=f"{kept:,} of {tally.samples:,} samples are kept under the policy {escape(tally.policy)}.",
        counts="\n".join(
            f"<div><dt>{escape(name)}</dt><dd>{count:,}</dd></div>"
            for name, count in sorted(tally.reasons.items(), key=lambda item: (item[0] != "kept", item[0]))
        ),
        audit=_audited(audit, kept),
        found=_found(tally),
        scores="\n".join(_histogram(name, *both) for name, both in sorted(tally.scores.items())),
        groups=_groups(tally, audit),
        examples=_examples(tally.examples, samples, include_captions),
        footer=f"{escape(str(cleaning.folder.name))}. Made by Safelight.",
    )
    style = (_FOLDER / "cleaning.css").read_text("utf-8")
    return write_text(out, REPORT, render_page("Safelight: cleaned data", style, body), include_captions)


def _audited(audit: Mapping[str, Any] | None, kept: int) -> str:
    residual = audit and audit["residual"]
    if not audit or not residual:
        return (
            "<p>Not audited yet: <code>safelight clean audit</code> draws a sample for people to label.</p>"
        )
    low, high, bound = residual["low"], residual["high"], audit["bound"]
    text = (
        f"<p>{residual['k']} of {residual['n']} labelled kept samples are harmful: "
        f"{_percent(residual['rate'])} ({_percent(low)} to {_percent(high)}), or about "
        f"{residual['rate'] * kept:,.0f} of all {kept:,}; with 95 % confidence at most {_percent(bound)}.</p>"
    )
    if rate := audit["rejected_harmless"]:
        text += (
            f"<p>{rate['k']} of {rate['n']} labelled rejected samples are harmless: {_percent(rate['rate'])} "
            f"({_percent(rate['low'])} to {_percent(rate['high'])}).</p>"
        )
    return text


def _found(tally: Tally) -> str:
    return _rows([(category, name, f"{count:,}") for (category, name), count in tally.found.most_common()], 2)


def _groups(tally: Tally, audit: Mapping[str, Any] | None) -> str:
    every, all_rejected = tally.captioned
    audited_groups = audit["groups"] if audit else {}
    rows = []
    for name, (samples, rejected) in sorted(tally.groups.items(), key=lambda item: -item[1][1] / item[1][0]):
        rate, rest = Rate(rejected, samples), (all_rejected - rejected, every - samples)
        times = f"{rate.rate / (rest[0] / rest[1]):.1f}" if all(rest) else "–"
        harmless = (audited_groups.get(name) or {}).get("rejected_harmless")
        labelled = f"{harmless['k']} of {harmless['n']}" if harmless else "–"
        low, high = rate.interval
        share = f"{_percent(low)} to {_percent(high)}"
        rows.append((name, f"{samples:,}", _percent(rate.rate), share, times, labelled))
    return _rows(rows, 1)


def _rows(rows: Sequence[Sequence[str]], words: int) -> str:
    """Return table rows as HTML; the first ``words`` columns are text, the rest numbers."""
    return "\n".join(
        "<tr>"
        + "".join(
            f"<td>{escape(cell)}</td>" if place < words else f'<td class="n">{escape(cell)}</td>'
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )


def _histogram(category: str, rejected: Sequence[int], kept: Sequence[int]) -> str:
    """Return a histogram as SVG, with bars of kept and rejected samples side by side in each bin."""
    most = max(math.log1p(max(*rejected, *kept)), 1e-9)
    step = _WIDTH / len(rejected)
    bars = []
    for place, both in enumerate(zip(kept, rejected, strict=True)):
        for side, count in enumerate(both):
            height = _HEIGHT * math.log1p(count) / most
            x, wide = place * step + side * step / 2 + 1, step / 2 - 1
            name = ' class="rejected"' if side else ""
            size = f'y="{_HEIGHT - height:.1f}" width="{wide:.1f}" height="{height:.1f}"'
            bars.append(f'<rect{name} x="{x:.1f}" {size}><title>{count:,}</title></rect>')
    axis = "".join(
        f'<text x="{_WIDTH * tick / 4:.0f}" y="{_HEIGHT + 14}" text-anchor="{anchor}">{tick / 4:g}</text>'
        for tick, anchor in enumerate(("start", "middle", "middle", "middle", "end"))
    )
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT + 16}"'
    return f'<h3>{escape(category)}</h3>\n<svg class="bars" {box} role="img">{"".join(bars)}{axis}</svg>'


def _examples(
    examples: Mapping[str, Sequence[str]], samples: Mapping[str, Sample], include_captions: bool
) -> str:
    parts = []
    for category, ids in sorted(examples.items()):
        cards = "\n".join(_example(samples[name], include_captions) for name in ids if name in samples)
        parts.append(f'<h3>{escape(category)}</h3>\n<div class="cards">\n{cards}\n</div>')
    return "\n".join(parts) or "<p>No sample was rejected as harmful.</p>"


def _example(sample: Sample, include_captions: bool) -> str:
    return load_template(_FOLDER / "example.html").substitute(
        image=thumbnail(sample), id=escape(sample.id), caption=caption_of(sample, include_captions)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.2g} %"
