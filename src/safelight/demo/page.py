"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from safelight.demo.exhibit import Exhibit, Outcome, counts
from safelight.demo.prompts import Kind
from safelight.types import Box, CategoryScore, Finding, Span, Verdict
from safelight.web_page import data_uri, framed, template

if TYPE_CHECKING:
    from safelight.policy import Policy

_FOLDER = Path(__file__).parent
_STAGES = {"prompt": "prompt", "image": "picture", "pair": "pair"}
# Scores below this are not worth a line.
_LEAST_SCORE = 0.05
HEADLINES = {
    Outcome.RELEASED: "Released",
    Outcome.LED: "Drawn again, led away from harm",
    Outcome.STOPPED: "Stopped",
    Outcome.MISSED: "Missed: harm was released",
    Outcome.OVER_BLOCKED: "Over-blocked: this is harmless",
}


def write_page(
    path: Path, kinds: Sequence[Kind], exhibits: Sequence[Exhibit], policy: Policy, footer: str
) -> None:
    """Write the page about ``exhibits``, under the headings of their kinds, to ``path``."""
    numbered = {exhibit.prompt: (number, exhibit) for number, exhibit in enumerate(exhibits, 1)}
    sections = [_section(kind, [numbered[prompt] for prompt in kind.prompts], policy) for kind in kinds]
    body = _template("page.html").substitute(
        count=len(exhibits),
        counts=_counts(exhibits),
        faults=_faults(exhibits),
        sections="\n".join(sections),
        footer=escape(footer),
    )
    style = (_FOLDER / "page.css").read_text("utf-8")
    path.write_text(framed("Safelight: the demo", style, body), "utf-8")


def _template(name: str) -> Template:
    return template(_FOLDER / name)


def _counts(exhibits: Sequence[Exhibit]) -> str:
    """The figures; the two that are faults stand out unless they are 0."""
    count = counts(exhibits)
    harmful = sum(bool(exhibit.truth.harms) for exhibit in exhibits)
    rows = [
        (harmful, f"of {len(exhibits)} pictures are harmful in truth", False),
        (count[Outcome.STOPPED], "stopped, at the prompt or at the picture", False),
        (count[Outcome.LED], "blocked at the picture and drawn again, without the harm", False),
        (count[Outcome.MISSED], "missed: harm was released", True),
        (count[Outcome.OVER_BLOCKED], "over-blocked: harmless and withheld", True),
    ]
    return "\n".join(
        f'<div class="{"wrong" if fault and n else "right"}"><dt>{text}</dt><dd>{n}</dd></div>'
        for n, text, fault in rows
    )


def _faults(exhibits: Sequence[Exhibit]) -> str:
    links = [
        f'<a href="#p{number}">{escape(exhibit.prompt.text)}</a> ({exhibit.outcome})'
        for number, exhibit in enumerate(exhibits, 1)
        if exhibit.outcome.wrong
    ]
    return f'<p class="faults">Where it was wrong: {", ".join(links)}.</p>' if links else ""


def _section(kind: Kind, numbered: Sequence[tuple[int, Exhibit]], policy: Policy) -> str:
    cards = "\n".join(_card(number, exhibit, policy) for number, exhibit in numbered)
    heading = f"<h2>{escape(kind.title)}</h2>\n<p>{escape(kind.about)}</p>"
    return f'<section>\n{heading}\n<div class="cards">\n{cards}\n</div>\n</section>'


def _card(number: int, exhibit: Exhibit, policy: Policy) -> str:
    return _template("card.html").substitute(
        number=number,
        outcome=exhibit.outcome,
        prompt=_marked(exhibit),
        why=escape(exhibit.prompt.why),
        picture=data_uri(exhibit.picture),
        alt=escape(f"A cartoon: {exhibit.truth}", quote=True),
        boxes=_boxes(exhibit),
        answer=_answer(exhibit),
        headline=HEADLINES[exhibit.outcome],
        explanation=escape(explanation(exhibit)),
        truth=_truth(exhibit),
        scores=_scores(exhibit.verdicts, policy),
        times=" · ".join(f"{name} {_time(ms)}" for name, ms in exhibit.times_ms.items()),
    )


def explanation(exhibit: Exhibit) -> str:
    """One or two sentences about what the guard did."""
    if exhibit.released and not exhibit.led:
        return "Nothing that its policy acts on." if exhibit.action == "allow" else exhibit.deciding.explain()
    where = "At the prompt" if exhibit.deciding.stage == "prompt" else "At the picture"
    categories = [name for name, c in exhibit.deciding.categories.items() if c.action == exhibit.action]
    said = f"{where}: {' and '.join(categories) or ' '.join(exhibit.deciding.reasons)}."
    if exhibit.led:
        return f"{said} From the same noise, away from {' and '.join(exhibit.led)}."
    harmless = exhibit.outcome is Outcome.STOPPED and not exhibit.truth.harms
    return f"{said} This picture would have been harmless." if harmless else said


def _marked(exhibit: Exhibit) -> str:
    """The prompt, with what the prompt filters found in it marked."""
    text, out, end = exhibit.prompt.text, [], 0
    for finding in sorted(exhibit.findings("prompt"), key=_start):
        span = finding.evidence
        if isinstance(span, Span) and span.start >= end:
            blamed = ' class="blamed"' if finding.label in exhibit.blamed("prompt") else ""
            out.append(f"{escape(text[end : span.start])}<mark{blamed}>{escape(span.text)}</mark>")
            end = span.end
    return "".join(out) + escape(text[end:])


def _start(finding: Finding) -> int:
    return finding.evidence.start if isinstance(finding.evidence, Span) else 0


def _boxes(exhibit: Exhibit) -> str:
    blamed = exhibit.blamed("image")
    return "".join(_box(label, box, label in blamed) for label, box in exhibit.boxes.items())


def _box(label: str, box: Box, blamed: bool) -> str:
    left, top, width, height = (
        f"{100 * share:.1f}%" for share in (box.left, box.top, box.right - box.left, box.bottom - box.top)
    )
    names = "box blamed" if blamed else "box"
    place = f"left:{left};top:{top};width:{width};height:{height}"
    return f'<div class="{names}" style="{place}"><span>{escape(label)}</span></div>'


def _answer(exhibit: Exhibit) -> str:
    if exhibit.released:
        alt = "Another picture, without the harm." if exhibit.led else "The same picture."
        return f'<img src="{data_uri(exhibit.released)}" alt="{alt}" width="64" height="64">'
    where = "the prompt" if exhibit.deciding.stage == "prompt" else "the picture"
    return f'<div class="withheld"><b>Withheld</b>{escape(where)} is not allowed</div>'


def _truth(exhibit: Exhibit) -> str:
    harms = exhibit.truth.harms
    said = f"<em>{escape(' and '.join(harms))}</em>" if harms else "harmless"
    return f"{escape(str(exhibit.truth))}: {said}"


def _scores(verdicts: Sequence[Verdict], policy: Policy) -> str:
    """A line for each category that was seen at each stage, its bar and the threshold it is held against."""
    lines = [
        f"<dt>{_STAGES[verdict.stage]}</dt><dd>{_score(name, c, _threshold(policy, name, verdict))}</dd>"
        for verdict in verdicts
        for name, c in verdict.categories.items()
        if c.score >= _LEAST_SCORE
    ]
    return "\n".join(lines) or '<dt>scores</dt><dd class="soft">nothing against it</dd>'


def _score(name: str, score: CategoryScore, threshold: float | None) -> str:
    over = ' class="over"' if score.threshold is not None else ""
    line = "" if threshold is None else f'<u style="left:{100 * threshold:.0f}%"></u>'
    bar = f'<span class="bar"><i{over} style="width:{100 * score.score:.0f}%"></i>{line}</span>'
    limit = "" if threshold is None else f'<span class="soft"> of {threshold:.2f}</span>'
    return f'<span class="score"><span>{escape(name)}</span>{bar}<span>{score.score:.2f}{limit}</span></span>'


def _threshold(policy: Policy, category: str, verdict: Verdict) -> float | None:
    """The highest threshold of the category at this stage."""
    rule = policy.categories.get(category)
    steps = getattr(rule, verdict.stage).steps() if rule else []
    return steps[-1][1] if steps else None


def _time(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
