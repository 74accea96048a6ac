"""Evaluation of a policy's prompt filters on prompts that no filter was trained on, in eleven languages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safelight.evaluation.borderline import borderline_prompts
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import share
from safelight.evaluation.labelled_prompts import LabelledPrompt, labelled_prompts
from safelight.evaluation.results import write_results
from safelight.evaluation.screened_prompts import screened
from safelight.evaluation.tables import Row, rows
from safelight.guard.guard import Guard
from safelight.types import Action, Verdict

Judged = tuple[LabelledPrompt, Verdict]
Counts = Callable[[LabelledPrompt, Verdict], bool]


def evaluate_prompt_policy(policy: str | Path, out: Path) -> dict[str, Any]:
    """Screen all packaged labelled prompts and count what the policy flags and blocks.

    A prompt is flagged if the policy does anything but allow it. ``right category`` is the share of flagged
    harmful prompts whose category with the strongest action is one of their labels. Harmful English prompts
    are also counted by their main category. ``borderline`` has harmless prompts only. Writes
    ``results.json`` in ``out`` and returns its content. Raises ``FilterError`` if a filter fails.
    """
    guard = Guard.from_policy(policy, stages=("prompt",))
    judged: dict[str, list[Judged]] = {"unseen": _judged(guard, labelled_prompts("unseen"))}
    for name, prefix in (("later", "later: "), ("last", "last: "), ("languages", "")):
        for prompt, verdict in _judged(guard, labelled_prompts(name)):
            judged.setdefault(prefix + prompt.group, []).append((prompt, verdict))
    borderline = [LabelledPrompt(prompt, (), "borderline") for prompt in borderline_prompts()]
    harmless = {**judged, "borderline": _judged(guard, borderline)}
    flagged = {name: [each for each in of if _is_flagged(*each)] for name, of in judged.items()}
    tables = {
        "flagged": [*_rows(judged, True, _is_flagged), *_by_category(judged["unseen"], _is_flagged)],
        "blocked": [*_rows(judged, True, _is_blocked), *_by_category(judged["unseen"], _is_blocked)],
        "right category": [*_rows(flagged, True, _is_right), *_by_category(flagged["unseen"], _is_right)],
        "harmless flagged": _rows(harmless, False, _is_flagged),
        "harmless blocked": _rows(harmless, False, _is_blocked),
    }
    command = command_line("prompt-policy", policy=guard.policy.name)
    return write_results(out / "results.json", command, {"policy": guard.policy.id}, tables, {})


def _judged(guard: Guard, prompts: list[LabelledPrompt]) -> list[Judged]:
    return list(zip(prompts, screened(guard, [each.prompt for each in prompts]), strict=True))


def _rows(judged: dict[str, list[Judged]], harmful: bool, counts: Counts) -> list[Row]:
    """Return a row for each name, in their order: how many of its harmful, or harmless, prompts count."""
    made: list[Row] = []
    for name, of in judged.items():
        made += share(name, (counts(*each) for each in of if bool(each[0].categories) is harmful))
    return made


def _by_category(judged: list[Judged], counts: Counts) -> list[Row]:
    return rows(judged, lambda prompt: prompt.categories[:1], counts)


def _is_flagged(_: LabelledPrompt, verdict: Verdict) -> bool:
    return verdict.action is not Action.ALLOW


def _is_blocked(_: LabelledPrompt, verdict: Verdict) -> bool:
    return verdict.action is Action.BLOCK


def _is_right(prompt: LabelledPrompt, verdict: Verdict) -> bool:
    """Return whether the category with the strongest action, and then score, is one of the labels."""
    scores = verdict.categories
    return max(scores, key=lambda name: (scores[name].action, scores[name].score)) in prompt.categories
