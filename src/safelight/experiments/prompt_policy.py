"""Evaluation of a policy's prompt filters on prompts that no filter was trained on, in eleven languages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safelight.evaluation.borderline import borderline_prompts
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import share
from safelight.evaluation.labelled_prompts import SETS, labelled_prompts
from safelight.evaluation.results import write_results
from safelight.evaluation.screened_prompts import screened
from safelight.evaluation.tables import Row, rows
from safelight.filters.text.labelled_prompts import LabelledPrompt
from safelight.filters.text.training.calibration_prompts import calibration_prompts
from safelight.guard.guard import Guard
from safelight.policy.taxonomy import load_taxonomy
from safelight.types import Action, Verdict

Judged = tuple[LabelledPrompt, Verdict]
Counts = Callable[[LabelledPrompt, Verdict], bool]
# The groups of English prompts that nothing was tuned on.
_ENGLISH = ("unseen", "later", "last", "final")


def evaluate_prompt_policy(policy: str | Path, out: Path) -> dict[str, Any]:
    """Screen all packaged labelled prompts and count what the policy flags and blocks.

    A prompt is flagged if the policy does anything but allow it. ``right category`` is the share of flagged
    harmful prompts whose category with the strongest action is one of their labels. English prompts are also
    counted by category: the harmful ones by their main category, the harmless ones by each category under
    which they are flagged. The prompts that thresholds were chosen on ("chosen on") are not among these, and
    neither are those of "borderline", which has harmless prompts only. Writes ``results.json`` in ``out`` and
    returns its content. Raises ``FilterError`` if a filter fails.
    """
    guard = Guard.from_policy(policy, stages=("prompt",))
    judged = _by_group(guard)
    english = [each for name, of in judged.items() if name.startswith(_ENGLISH) for each in of]
    borderline = [LabelledPrompt(prompt, (), "borderline") for prompt in borderline_prompts()]
    harmless = {**judged, "borderline": _judged(guard, borderline)}
    flagged = {name: [each for each in of if _is_flagged(*each)] for name, of in judged.items()}
    english_flagged = [each for each in english if _is_flagged(*each)]
    tables = {
        "flagged": [*_rows(judged, True, _is_flagged), *_by_category(english, _is_flagged)],
        "blocked": [*_rows(judged, True, _is_blocked), *_by_category(english, _is_blocked)],
        "right category": [*_rows(flagged, True, _is_right), *_by_category(english_flagged, _is_right)],
        "harmless flagged": [*_rows(harmless, False, _is_flagged), *_under_each(english, Action.REVIEW)],
        "harmless blocked": [*_rows(harmless, False, _is_blocked), *_under_each(english, Action.BLOCK)],
    }
    command = command_line("prompt-policy", policy=guard.policy.name)
    return write_results(out / "results.json", command, {"policy": guard.policy.id}, tables, {})


def _by_group(guard: Guard) -> dict[str, list[Judged]]:
    """Return the verdicts on all labelled prompts, by set and group; those in other languages by language."""
    sets = {"chosen on": calibration_prompts(), **{name: labelled_prompts(name) for name in SETS}}
    judged: dict[str, list[Judged]] = {}
    for name, prompts in sets.items():
        for prompt, verdict in _judged(guard, prompts):
            group = {"unseen": name, "languages": prompt.group}.get(name, f"{name}: {prompt.group}")
            judged.setdefault(group, []).append((prompt, verdict))
    return judged


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


def _under_each(judged: list[Judged], action: Action) -> list[Row]:
    """Return for each category how many of all harmless prompts it judges with at least this action."""
    harmless = [verdict.categories for prompt, verdict in judged if not prompt.categories]
    return [
        row
        for name in load_taxonomy().categories
        for row in share(name, (name in of and of[name].action >= action for of in harmless))
    ]


def _is_flagged(_: LabelledPrompt, verdict: Verdict) -> bool:
    return verdict.action is not Action.ALLOW


def _is_blocked(_: LabelledPrompt, verdict: Verdict) -> bool:
    return verdict.action is Action.BLOCK


def _is_right(prompt: LabelledPrompt, verdict: Verdict) -> bool:
    """Return whether the category with the strongest action, and then score, is one of the labels."""
    scores = verdict.categories
    return max(scores, key=lambda name: (scores[name].action, scores[name].score)) in prompt.categories
