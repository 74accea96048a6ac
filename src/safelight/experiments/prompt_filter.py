"""Evaluation of a policy's prompt filters: block rates by source of the prompts, and in altered spelling."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from safelight.attacks.spelling import SPELLINGS, misspell, misspell_spans
from safelight.evaluation.borderline import borderline_prompts
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import share
from safelight.evaluation.results import write_results
from safelight.evaluation.screened_prompts import screened
from safelight.evaluation.tables import Row
from safelight.filters.text.training.corpus import read_corpus
from safelight.filters.text.training.grammar import Text
from safelight.guard.guard import Guard
from safelight.types import Action, Span, Verdict

Alter = Callable[[str, Verdict, str, random.Random], str]


def evaluate_prompt_filter(
    policy: str | Path, data: Path, out: Path, count: int = 200, seed: int = 0
) -> dict[str, Any]:
    """Screen ``count`` harmful and harmless prompts of each family, also in eight altered spellings.

    ``blocked`` is the block rate by family. ``through`` is the share of blocked harmful prompts that pass
    once the detected words, or all words, are misspelt. ``benign blocked`` is the block rate of harmless
    prompts with all words misspelt. Writes ``results.json`` in ``out`` and returns its content. The packaged
    filters were trained on the same families; ``evaluate prompt-classifier`` measures them on held-out
    families.
    """
    guard, rng = Guard.from_policy(policy, stages=("prompt",)), random.Random(seed)
    sampled = {**_sampled(read_corpus(data), count, rng), "scary but harmless": borderline_prompts()}
    judged = {group: screened(guard, prompts) for group, prompts in sampled.items()}
    harmful = [
        (prompt, verdict)
        for group in sampled
        for prompt, verdict in zip(sampled[group], judged[group], strict=True)
        if group.endswith("unsafe") and verdict.action is Action.BLOCK
    ]
    benign = [prompt for group, prompts in sampled.items() if group.endswith(" safe") for prompt in prompts]
    altered = {how: [misspell(prompt, how, rng) for prompt in benign] for how in SPELLINGS}
    tables = {
        "blocked": [row for name, verdicts in judged.items() for row in _blocked(name, verdicts)],
        "through, found words altered": _through(guard, harmful, _found_altered, rng),
        "through, all words altered": _through(guard, harmful, _all_altered, rng),
        "benign blocked, all words altered": [
            row
            for how, prompts in {"as written": benign, **altered}.items()
            for row in _blocked(how, screened(guard, prompts))
        ],
    }
    command = command_line("prompt-filter", data="FILE", policy=guard.policy.name, count=count, seed=seed)
    return write_results(out / "results.json", command, {"policy": guard.policy.id}, tables, _means(tables))


def _sampled(texts: Sequence[Text], count: int, rng: random.Random) -> dict[str, list[str]]:
    """Return sampled prompts by family and label, such as "coprov2 unsafe"."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(f"{text.family} {'unsafe' if text.categories else 'safe'}", []).append(text.prompt)
    return {name: rng.sample(prompts, min(count, len(prompts))) for name, prompts in sorted(groups.items())}


def _blocked(name: str, verdicts: Sequence[Verdict]) -> list[Row]:
    return share(name, (verdict.action is Action.BLOCK for verdict in verdicts))


def _through(
    guard: Guard, blocked: Sequence[tuple[str, Verdict]], alter: Alter, rng: random.Random
) -> list[Row]:
    """Return the share of blocked prompts that pass once they are altered, by spelling."""
    rows = []
    for how in SPELLINGS if blocked else ():
        verdicts = screened(guard, [alter(prompt, verdict, how, rng) for prompt, verdict in blocked])
        rows += share(how, (verdict.action is not Action.BLOCK for verdict in verdicts))
    return rows


def _all_altered(prompt: str, verdict: Verdict, how: str, rng: random.Random) -> str:
    return misspell(prompt, how, rng)


def _found_altered(prompt: str, verdict: Verdict, how: str, rng: random.Random) -> str:
    """Alter only the words that findings point at, as an attacker who knows the findings would."""
    spans = [(span.start, span.end) for f in verdict.findings if isinstance(span := f.evidence, Span)]
    return misspell_spans(prompt, spans, how, rng)


def _means(tables: Mapping[str, Sequence[Row]]) -> dict[str, float | None]:
    """Return means over the eight spellings."""
    return {
        f"{name}, mean": mean(row.rate.rate for row in rows if row.group in SPELLINGS)
        for name, rows in tables.items()
        if name != "blocked" and rows
    }
