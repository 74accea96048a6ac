"""Prompts of any characters, in any disguise: each gets one verdict, the same in any company.

python -m fuzz.prompts [--count 5000] [--seed 0]
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from fuzz.mutations import mutated
from fuzz.subject import Subject, Tried, main, timed
from safelight.guard.guard import Guard
from safelight.types import Action, Span, Verdict

_POLICIES = ("general", "storybook")
_CORPUS = Path(__file__).parents[1] / "corpus" / "prompts.toml"

# What is decoded before a prompt is read: entities, tags, escapes, and text that runs from right to left.
coded = st.text(
    st.sampled_from("aGun <>&#;%\\u0167xb/\n\u202e\u202c\u202d\u202a\u2066\u2068\u2069é🔪")
    | st.sampled_from(["&#103;", "&lt;", "%67", "\\u0067", "<b>", "</b>", "<br>"]).flatmap(st.sampled_from),
    max_size=60,
)

# Half a character, or one that controls a terminal, has its prompt refused before it is read.
_CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc"])
_WORDS = ["a", "an", "the", "with", "in", "his", "hand", "gun", "knife", "man", "child", "cat"]
_DISGUISED = ["agun", "holdingAknife", "kn1fe", "g.u.n", "g u n", "knief", "nug", "GUNS"]
_PIECES = st.one_of(
    st.sampled_from(_WORDS + _DISGUISED),
    st.sampled_from([" ", "\n", "-", "_", ".", "*", "'", "\u200b", "\u00ad", "\u0301", "\ufe0f", "\u3000"]),
    st.sampled_from(["&#103;", "&amp;#117;", "<b>", "</b>", "<!--", "%67", "%2567", "\\u0067", "\\x67"]),
    st.sampled_from(
        ["\u202e", "\u202c", "\u2066", "\u2067", "\u2068", "\u2069", "\ufdfa", "㍿", "🔫", "👩‍👩‍👧"]
    ),
    st.sampled_from(["ภ", "ᑌ", "ꓖ", "ן", "ց", "ｇ", "𝐠", "ⓖ", "g\u0336", "1", "刀", "ﬃ", "ß", "İ"]),
    st.text(_CHARACTERS, max_size=4),
)


@cache
def _known() -> list[bytes]:
    cases = tomllib.loads(_CORPUS.read_text("utf-8"))["cases"]
    return [prompt.encode("utf-8", "surrogatepass") for case in cases for prompt in case["prompts"]]


def _damaged(number: int) -> str:
    """One of the corpus' prompts with some of its bytes changed."""
    random = Random(number)
    return mutated(random.choice(_known()), random, _known()).decode(
        "utf-8", random.choice(["ignore", "replace"])
    )


_SHORT = st.one_of(
    st.text(st.characters(codec=None), max_size=200),
    st.text(_CHARACTERS, max_size=200),
    coded,
    st.lists(_PIECES, max_size=30).map("".join),
    st.lists(_PIECES, max_size=30).map(" ".join),
    st.integers(0, 2**64 - 1).map(_damaged),
)
# Up to the length at which prompts are refused, and beyond it.
_LONG = st.tuples(_SHORT, st.integers(2, 3000)).map(lambda pair: (pair[0] * pair[1])[:110_000])
_PROMPTS = st.integers(0, 19).flatmap(lambda number: _LONG if number == 19 else _SHORT)


@cache
def _guard(policy: str) -> Guard:
    guard = Guard.from_policy(policy, stages=("prompt",)).load()
    guard.screen_prompts(
        ["a kn1fe, agun and a g.u.n in his h&#97;nd"]
    )  # what is loaded with the first prompt counts for none
    return guard


def check(prompts: Sequence[str]) -> Tried:
    """Screen the prompts alone and together, under every packaged policy."""
    refused, slowest = 0, 0.0
    for policy in _POLICIES:
        guard = _guard(policy)
        alone = [timed(partial(guard.screen_prompts, [prompt])) for prompt in prompts]
        verdicts = [verdict for (verdict,), _ in alone]
        together = guard.screen_prompts(prompts)
        assert list(map(_said, together)) == list(map(_said, verdicts)), "a verdict depends on the batch"
        for prompt, verdict in zip(prompts, verdicts, strict=True):
            _check_verdict(policy, prompt, verdict)
        refused += sum(bool(verdict.reasons) for verdict in verdicts)
        slowest = max(slowest, *(cpu_s for _, cpu_s in alone))
    return Tried(len(prompts) * len(_POLICIES), refused, slowest)


def _said(verdict: Verdict) -> Verdict:
    """The verdict without its place in the batch and what it cost."""
    versions = {name: replace(run, elapsed_ms=0.0) for name, run in verdict.filters.items()}
    return replace(verdict, index=0, elapsed_ms=0.0, filters=versions)


def _check_verdict(policy: str, prompt: str, verdict: Verdict) -> None:
    """It is a block for a reason, or every filter has read the prompt up to a block."""
    assert not verdict.reasons or verdict.action is Action.BLOCK
    listed = set(_guard(policy).policy.filters.prompt)
    assert verdict.action is Action.BLOCK or set(verdict.filters) == listed
    assert not any("failed" in reason or "not answer" in reason for reason in verdict.reasons), (
        verdict.reasons
    )
    for finding in verdict.findings:
        span = finding.evidence
        assert isinstance(span, Span)
        assert prompt[span.start : span.end] == span.text


# The longest prompt that is read takes the network 24 windows of about 0.035 s on one core of a server.
_CPU_S = 1.5
cases = st.lists(_PROMPTS, min_size=1, max_size=3)
PROMPTS = Subject("verdicts on prompts", cases, check, 5000, _CPU_S)

if __name__ == "__main__":
    main(PROMPTS)
