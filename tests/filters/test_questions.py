"""Whatever a server answers, every question gives scores in [0, 1] or says that it cannot read it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safelight.errors import FilterError
from safelight.filters.image.llava_guard import CATEGORIES
from safelight.filters.image.vision_language_model import VisionLanguageModel
from safelight.filters.questions import Case, Question, Rules
from safelight.taxonomy import load_taxonomy

RULES = Rules(dict.fromkeys(CATEGORIES, "Something."))
QUESTIONS = [
    next(ask(Case(picture="data:image/png;base64,"), RULES)) for ask in VisionLanguageModel.questions.values()
]
asked = pytest.mark.parametrize("question", QUESTIONS, ids=list(VisionLanguageModel.questions))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    ["Yes", "No", "Safe", "Unsafe", "safe", "unsafe\nS1", "O3: Sexual Content", "NA", "S99"]
)
NUMBERS = st.floats() | st.integers() | st.sampled_from([0, -0.1, 10**400, -(10**400)])
OBJECTS = st.fixed_dictionaries(
    {"rating": WORDS | JSON, "category": WORDS | JSON},
    optional={"case": JSON, "scores": st.dictionaries(st.sampled_from(CATEGORIES), NUMBERS | JSON)},
)
ROWS = st.fixed_dictionaries({"token": WORDS | st.just("Un") | JSON, "logprob": NUMBERS | JSON})
TOKENS = st.fixed_dictionaries(
    {
        "token": st.sampled_from(['{"rating": "', "Un", "safe", "Yes"]) | JSON,
        "top_logprobs": st.lists(ROWS) | JSON,
    }
)
CONTENT = WORDS | OBJECTS.map(json.dumps) | st.text() | JSON
CHOICES = st.fixed_dictionaries(
    {"message": st.fixed_dictionaries({"content": CONTENT}) | JSON},
    optional={"logprobs": st.fixed_dictionaries({"content": st.lists(TOKENS | JSON) | JSON}) | JSON},
)


@asked
@given(choice=CHOICES | JSON)
@settings(max_examples=150, deadline=None)
def test_an_answer_is_read_or_refused(question: Question, choice: Any) -> None:
    try:
        scores = question.read(choice)
    except FilterError:
        return
    assert scores.keys() <= load_taxonomy().categories.keys()
    assert all(0 <= score <= 1 for score in scores.values())


@given(
    body=st.binary(max_size=40) | JSON.map(lambda body: json.dumps(body).encode()),
    status=st.sampled_from([200, 204]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_response_that_is_no_chat_completion_blocks_its_picture_alone(
    chat: Any, body: bytes, status: int
) -> None:
    from PIL import Image

    chat.answer = lambda _: (status, body, 0.0)
    judge = VisionLanguageModel(chat.url, "tiny", answers="llava-guard", pause_s=0.001)
    (answer,) = judge.find([Image.new("RGB", (2, 2))])
    assert isinstance(answer, FilterError)
