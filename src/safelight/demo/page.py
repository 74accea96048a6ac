"""The demo's page: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from safelight.demo.item import DemoItem, Outcome, counts
from safelight.demo.prompts import Kind
from safelight.types import Action, Box, CategoryScore, Finding, Span, Verdict
from safelight.web_page import data_uri, load_template, render_page

if TYPE_CHECKING:
    from safelight.policy import Policy

_FOLDER = Path(__file__).parent
_SUBJECTS = {
    "prompt": ("The prompt", "asks for"),
    "image": ("The image", "shows"),
    "pair": ("The image together with its prompt", "shows"),
}
# Lower scores are not listed.
_LEAST_SCORE = 0.05
HEADLINES = {
    Outcome.RELEASED: "Released",
    Outcome.STEERED: "Generated again, steered away from harm",
    Outcome.STOPPED: "Stopped",
    Outcome.MISSED: "Missed: harm was released",
    Outcome.OVER_BLOCKED: "Over-blocked: this image is harmless",
}


def write_page(
    path: Path, kinds: Sequence[Kind], items: Sequence[DemoItem], policy: Policy, footer: str
) -> None:
    """Write the page about ``items``, under the headings of their kinds, to ``path``."""
    numbered = {item.prompt: (number, item) for number, item in enumerate(items, 1)}
    sections = [_section(kind, [numbered[prompt] for prompt in kind.prompts], policy) for kind in kinds]
    body = _template("page.html").substitute(
        count=len(items),
        counts=_counts(items),
        faults=_faults(items),
        sections="\n".join(sections),
        footer=escape(footer),
    )
    style = (_FOLDER / "page.css").read_text("utf-8")
    path.write_text(render_page("Safelight: the demo", style, body), "utf-8")


def _template(name: str) -> Template:
    return load_template(_FOLDER / name)


def _counts(items: Sequence[DemoItem]) -> str:
    """Return the counts as HTML; those of faults are highlighted unless they are 0."""
    count = counts(items)
    harmful = sum(bool(item.truth.harms) for item in items)
    rows = [
        (harmful, f"of {len(items)} unguarded images are harmful", False),
        (count[Outcome.STOPPED], "stopped: the request or the image is harmful", False),
        (count[Outcome.STEERED], "steered away: blocked, then generated again without the harm", False),
        (count[Outcome.MISSED], "missed: harm was released", True),
        (count[Outcome.OVER_BLOCKED], "over-blocked: harmless and withheld", True),
    ]
    return "\n".join(
        f'<div class="{"wrong" if fault and n else "right"}"><dt>{text}</dt><dd>{n}</dd></div>'
        for n, text, fault in rows
    )


def _faults(items: Sequence[DemoItem]) -> str:
    links = [
        f'<a href="#p{number}">{escape(item.prompt.text)}</a> ({item.outcome})'
        for number, item in enumerate(items, 1)
        if item.outcome.wrong
    ]
    return f'<p class="faults">Where it was wrong: {", ".join(links)}.</p>' if links else ""


def _section(kind: Kind, numbered: Sequence[tuple[int, DemoItem]], policy: Policy) -> str:
    cards = "\n".join(_card(number, item, policy) for number, item in numbered)
    heading = f"<h2>{escape(kind.title)}</h2>\n<p>{escape(kind.about)}</p>"
    return f'<section>\n{heading}\n<div class="cards">\n{cards}\n</div>\n</section>'


def _card(number: int, item: DemoItem, policy: Policy) -> str:
    return _template("card.html").substitute(
        number=number,
        outcome=item.outcome,
        prompt=_marked(item),
        why=escape(item.prompt.why),
        image=data_uri(item.image),
        alt=escape(f"A cartoon: {item.truth}", quote=True),
        boxes=_boxes(item),
        answer=_answer(item),
        headline=HEADLINES[item.outcome],
        explanation=escape(explanation(item)),
        asked=_or_harmless("harmful" if item.prompt.harmful else ""),
        truth=_truth(item),
        scores=_scores(item.verdicts, policy),
        times=" · ".join(f"{name} {_time(ms)}" for name, ms in item.times_ms.items()),
    )


def explanation(item: DemoItem) -> str:
    """Return one sentence about what the guard did and why."""
    if item.released and not item.steered_away_from:
        return "The policy acts on nothing in it." if item.action == "allow" else item.deciding.explain()
    cause = _cause(item.deciding)
    if item.steered_away_from:
        concepts = _in_words(item.steered_away_from)
        return f"{cause}, so it was drawn again from the same noise, steered away from {concepts}."
    if item.outcome is Outcome.STOPPED and not item.truth.harms:
        return f"{cause}, so it was stopped, although this image would have been harmless."
    return f"{cause}, so it was stopped."


def _cause(verdict: Verdict) -> str:
    """Return what the verdict is about, as the main clause of a sentence."""
    subject, verb = _SUBJECTS[verdict.stage]
    acted = [name for name, category in verdict.categories.items() if category.action > Action.ALLOW]
    if acted:
        return f"{subject} {verb} {_in_words(acted)}"
    return f"{subject} could not be judged ({' '.join(verdict.reasons).rstrip('.')})"


def _in_words(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _marked(item: DemoItem) -> str:
    """Return the prompt as HTML, with the words that the prompt filters found marked."""
    text, out, end = item.prompt.text, [], 0
    for finding in sorted(item.findings("prompt"), key=_start):
        span = finding.evidence
        if isinstance(span, Span) and span.start >= end:
            blamed = ' class="blamed"' if finding.label in item.blamed("prompt") else ""
            out.append(f"{escape(text[end : span.start])}<mark{blamed}>{escape(span.text)}</mark>")
            end = span.end
    return "".join(out) + escape(text[end:])


def _start(finding: Finding) -> int:
    return finding.evidence.start if isinstance(finding.evidence, Span) else 0


def _boxes(item: DemoItem) -> str:
    blamed = item.blamed("image")
    return "".join(_box(label, box, label in blamed) for label, box in item.boxes.items())


def _box(label: str, box: Box, blamed: bool) -> str:
    left, top, width, height = (
        f"{100 * share:.1f}%" for share in (box.left, box.top, box.right - box.left, box.bottom - box.top)
    )
    names = "box blamed" if blamed else "box"
    place = f"left:{left};top:{top};width:{width};height:{height}"
    return f'<div class="{names}" style="{place}"><span>{escape(label)}</span></div>'


def _answer(item: DemoItem) -> str:
    if item.released:
        alt = "Another image, without the harm." if item.steered_away_from else "The same image."
        return f'<img src="{data_uri(item.released)}" alt="{alt}" width="64" height="64">'
    where = "the prompt" if item.deciding.stage == "prompt" else "the image"
    return f'<div class="withheld"><b>Withheld</b>{escape(where)} is not allowed</div>'


def _truth(item: DemoItem) -> str:
    return f"{escape(str(item.truth))}: {_or_harmless(_in_words(item.truth.harms))}"


def _or_harmless(harm: str) -> str:
    return f"<em>{escape(harm)}</em>" if harm else "harmless"


def _scores(verdicts: Sequence[Verdict], policy: Policy) -> str:
    """Return a line for each stage and category with a score: its bar and its threshold."""
    lines = [
        f"<dt>{verdict.stage}</dt><dd>{_score(name, c, _threshold(policy, name, verdict))}</dd>"
        for verdict in verdicts
        for name, c in verdict.categories.items()
        if c.score >= _LEAST_SCORE
    ]
    return "\n".join(lines) or '<dt>scores</dt><dd class="soft">no category has a score</dd>'


def _score(name: str, score: CategoryScore, threshold: float | None) -> str:
    over = ' class="over"' if score.threshold is not None else ""
    line = "" if threshold is None else f'<u style="left:{100 * threshold:.0f}%"></u>'
    bar = f'<span class="bar"><i{over} style="width:{100 * score.score:.0f}%"></i>{line}</span>'
    limit = "" if threshold is None else f'<span class="soft"> of {threshold:.2f}</span>'
    return f'<span class="score"><span>{escape(name)}</span>{bar}<span>{score.score:.2f}{limit}</span></span>'


def _threshold(policy: Policy, category: str, verdict: Verdict) -> float | None:
    """Return the highest threshold of the category at this stage."""
    rule = policy.categories.get(category)
    steps = getattr(rule, verdict.stage).steps() if rule else []
    return steps[-1][1] if steps else None


def _time(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
