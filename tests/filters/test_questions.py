"""Whatever a server answers, every question gives scores in [0, 1] or says that it cannot read it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from fuzz import chat_answers
from safelight.errors import FilterError
from safelight.filters.image.llava_guard import CATEGORIES
from safelight.filters.image.vision_language_model import VisionLanguageModel
from safelight.filters.questions import Case, Question, Rules
from safelight.policy.taxonomy import load_taxonomy

RULES = Rules(dict.fromkeys(CATEGORIES, "Something."))
QUESTIONS = [
    next(ask(Case(image="data:image/png;base64,"), RULES)) for ask in VisionLanguageModel.questions.values()
]
asked = pytest.mark.parametrize("question", QUESTIONS, ids=list(VisionLanguageModel.questions))


@asked
@given(choice=chat_answers.choices | chat_answers.json_values)
@settings(max_examples=150, deadline=None)
def test_an_answer_is_read_or_refused(question: Question, choice: Any) -> None:
    try:
        scores = question.read(choice)
    except FilterError:
        return
    assert scores.keys() <= load_taxonomy().categories.keys()
    assert all(0 <= score <= 1 for score in scores.values())


@given(case=chat_answers.cases)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_a_server_sends_each_item_has_findings_or_a_reason(
    chat: Any, case: chat_answers.Answer
) -> None:
    chat_answers.check_with(chat, case)
