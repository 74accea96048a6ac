"""The report on a cleaning: one page for whoever has to answer for the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.evaluation.cleaning.audit import audited
from safelight.evaluation.cleaning.thumbnail import caption_of, thumbnail
from safelight.evaluation.rates import Rate
from safelight.storage.atomic_write import write_text
from safelight.web_page import load_template, render_page

if TYPE_CHECKING:
    from safelight.alignment.training_data import Cleaning
    from safelight.alignment.training_data.sample import Sample
    from safelight.alignment.training_data.tally import Tally

REPORT = "report.html"
_FOLDER = Path(__file__).parent
_WIDTH, _HEIGHT = 720, 80


def write_report(cleaning: Cleaning, tally: Tally, out: Path, include_captions: bool = False) -> Path:
    """About what is in ``out``, with what an audit said of it; examples are read again from the data.

    Captions are personal: only with ``include_captions`` has it any, and then its owner alone may read it.
    """
    audit = audited(out)
    named = {name for ids in tally.examples.values() for name in ids}
    samples = {sample.id: sample for sample in cleaning.samples(named)}
    kept = tally.reasons["kept"]
    body = load_template(_FOLDER / "report.html").substitute(
        title="Cleaned data",
        lead=f"{kept:,} of {tally.samples:,} samples stay under the policy {escape(tally.policy)}.",
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
        return "<p>Nobody has looked: <code>safelight clean audit</code> draws a sample and says.</p>"
    low, high, bound = residual["low"], residual["high"], audit["bound"]
    said = (
        f"<p>Of {residual['n']} samples that stay {residual['k']} are harmful: {_percent(residual['rate'])} "
        f"({_percent(low)} to {_percent(high)}), which is about {residual['rate'] * kept:,.0f} of {kept:,}; "
        f"with 95 % confidence no more than {_percent(bound)}.</p>"
    )
    if gone := audit["rejected_harmless"]:
        said += (
            f"<p>Of {gone['n']} samples that go {gone['k']} are harmless: {_percent(gone['rate'])} "
            f"({_percent(gone['low'])} to {_percent(gone['high'])}).</p>"
        )
    return said


def _found(tally: Tally) -> str:
    return _rows([(category, name, f"{count:,}") for (category, name), count in tally.found.most_common()], 2)


def _groups(tally: Tally, audit: Mapping[str, Any] | None) -> str:
    every, gone = tally.captioned
    looked = audit["groups"] if audit else {}
    rows = []
    for name, (samples, go) in sorted(tally.groups.items(), key=lambda item: -item[1][1] / item[1][0]):
        rate, rest = Rate(go, samples), (gone - go, every - samples)
        times = f"{rate.rate / (rest[0] / rest[1]):.1f}" if all(rest) else "–"
        harmless = (looked.get(name) or {}).get("rejected_harmless")
        seen = f"{harmless['k']} of {harmless['n']}" if harmless else "–"
        low, high = rate.interval
        share = f"{_percent(low)} to {_percent(high)}"
        rows.append((name, f"{samples:,}", _percent(rate.rate), share, times, seen))
    return _rows(rows, 1)


def _rows(rows: Sequence[Sequence[str]], words: int) -> str:
    """The first so many columns are words, the rest numbers."""
    return "\n".join(
        "<tr>"
        + "".join(
            f"<td>{escape(cell)}</td>" if place < words else f'<td class="n">{escape(cell)}</td>'
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )


def _histogram(category: str, gone: Sequence[int], kept: Sequence[int]) -> str:
    """A pair of bars for each bin, kept and gone side by side."""
    most = max(math.log1p(max(*gone, *kept)), 1e-9)
    step = _WIDTH / len(gone)
    bars = []
    for place, both in enumerate(zip(kept, gone, strict=True)):
        for side, count in enumerate(both):
            height = _HEIGHT * math.log1p(count) / most
            x, wide = place * step + side * step / 2 + 1, step / 2 - 1
            name = ' class="gone"' if side else ""
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
    return "\n".join(parts) or "<p>Nothing went as harmful.</p>"


def _example(sample: Sample, include_captions: bool) -> str:
    return load_template(_FOLDER / "example.html").substitute(
        image=thumbnail(sample), id=escape(sample.id), caption=caption_of(sample, include_captions)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.2g} %"
