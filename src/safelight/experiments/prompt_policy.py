"""Evaluation of a policy's prompt filters on prompts that no filter was trained on, in eleven languages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safelight.evaluation.borderline import borderline_prompts
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import share
from safelight.evaluation.labelled_prompts import LabelledPrompt, labelled_prompts
from safelight.evaluation.results import write_results
from safelight.evaluation.screened_prompts import screened
from safelight.evaluation.tables import Row
from safelight.guard.guard import Guard
from safelight.types import Action, Verdict

Judged = tuple[LabelledPrompt, Verdict]


def evaluate_prompt_policy(policy: str | Path, out: Path) -> dict[str, Any]:
    """Screen all packaged labelled prompts and count what the policy flags and blocks.

    A prompt is flagged if the policy does anything but allow it. ``right category`` is the share of flagged
    harmful prompts whose category with the strongest action is one of their labels. Harmful English prompts
    are also counted by their main category. ``borderline`` has harmless prompts only. Writes
    ``results.json`` in ``out`` and returns its content. Raises ``FilterError`` if a filter fails.
    """
    guard = Guard.from_policy(policy, stages=("prompt",))
    judged: dict[str, list[Judged]] = {"unseen": _judged(guard, labelled_prompts("unseen"))}
    for prompt, verdict in _judged(guard, labelled_prompts("languages")):
        judged.setdefault(prompt.group, []).append((prompt, verdict))
    borderline = [LabelledPrompt(prompt, (), "borderline") for prompt in borderline_prompts()]
    harmless = {**judged, "borderline": _judged(guard, borderline)}
    flagged = {name: [each for each in of if _is_flagged(each)] for name, of in judged.items()}
    tables = {
        "flagged": [*_rows(judged, True, _is_flagged), *_by_category(judged["unseen"], _is_flagged)],
        "blocked": [*_rows(judged, True, _is_blocked), *_by_category(judged["unseen"], _is_blocked)],
        "right category": [*_rows(flagged, True, _is_right), *_by_category(flagged["unseen"], _is_right)],
        "harmless flagged": list(_rows(harmless, False, _is_flagged)),
        "harmless blocked": list(_rows(harmless, False, _is_blocked)),
    }
    command = command_line("prompt-policy", policy=guard.policy.name)
    return write_results(out / "results.json", command, {"policy": guard.policy.id}, tables, {})


def _judged(guard: Guard, prompts: list[LabelledPrompt]) -> list[Judged]:
    return list(zip(prompts, screened(guard, [each.prompt for each in prompts]), strict=True))


def _rows(judged: dict[str, list[Judged]], harmful: bool, counts: Callable[[Judged], bool]) -> Iterator[Row]:
    """Yield a row for each group: how many of its harmful, or harmless, prompts count."""
    for name, of in judged.items():
        yield from share(name, (counts(each) for each in of if bool(each[0].categories) is harmful))


def _by_category(judged: list[Judged], counts: Callable[[Judged], bool]) -> Iterator[Row]:
    groups: dict[str, list[Judged]] = {}
    for each in judged:
        if each[0].categories:
            groups.setdefault(each[0].categories[0], []).append(each)
    for category, of in sorted(groups.items()):
        yield from share(category, map(counts, of))


def _is_flagged(judged: Judged) -> bool:
    return judged[1].action is not Action.ALLOW


def _is_blocked(judged: Judged) -> bool:
    return judged[1].action is Action.BLOCK


def _is_right(judged: Judged) -> bool:
    """Return whether the category with the strongest action, and then score, is one of the labels."""
    prompt, verdict = judged
    scores = verdict.categories
    return max(scores, key=lambda name: (scores[name].action, scores[name].score)) in prompt.categories
