"""Answers of a chat endpoint, from nonsense to nearly right: each item gets scores, or a reason to block it.

python -m fuzz.chat_answers [--count 5000] [--seed 0]
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from threading import Thread
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from chat_server import ChatServer
from fuzz.mutations import mutated
from fuzz.subject import Subject, Tried, main, timed
from safelight.errors import FilterError
from safelight.filters.image.llava_guard import CATEGORIES
from safelight.filters.image.vision_language_model import VisionLanguageModel
from safelight.filters.text.language_model import LanguageModel
from safelight.policy.taxonomy import load_taxonomy

# Stands for the number of the case that an answer in JSON must repeat, and is as long.
_NUMBER = "<number of case>"
_TIMEOUT_S, _ATTEMPTS = 2.0, 2
# Some kinds of answers take a request for each category.
_ASKED = CATEGORIES[:3]
# The clock runs while other processes work.
_LONGEST_S = 10 * _ATTEMPTS * _TIMEOUT_S

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_words = st.sampled_from(
    ["Yes", "No", "Safe", "Unsafe", "safe", "unsafe\nS1", "O3: Sexual Content", "NA", "S99"]
)
_numbers = st.floats() | st.integers() | st.sampled_from([0, -0.1, 10**400, -(10**400)])
_full_scores = st.fixed_dictionaries(dict.fromkeys(_ASKED, st.floats(0, 1) | _numbers))
_objects = st.fixed_dictionaries(
    {"rating": _words | json_values, "category": _words | json_values},
    optional={
        "case": st.just(_NUMBER) | json_values,
        "scores": st.dictionaries(st.sampled_from(CATEGORIES), _numbers | json_values) | _full_scores,
    },
)
_scored = st.fixed_dictionaries({"case": st.just(_NUMBER), "scores": _full_scores})
_good_scores = st.fixed_dictionaries(
    {
        "case": st.just(_NUMBER),
        "scores": st.fixed_dictionaries(dict.fromkeys(_ASKED, st.floats(0, 1))),
    }
)
_rows = st.fixed_dictionaries(
    {"token": _words | st.just("Un") | json_values, "logprob": _numbers | json_values}
)
_tokens = st.fixed_dictionaries(
    {
        "token": st.sampled_from(['{"rating": "', "Un", "safe", "Yes"]) | json_values,
        "top_logprobs": st.lists(_rows) | json_values,
    }
)
_contents = _words | (_objects | _scored).map(json.dumps) | st.text() | json_values
choices: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"message": st.fixed_dictionaries({"content": _contents}) | json_values},
    optional={
        "logprobs": st.fixed_dictionaries({"content": st.lists(_tokens | json_values) | json_values})
        | json_values
    },
)

_completions = choices.map(lambda choice: json.dumps({"choices": [choice]}).encode())
_deep = st.tuples(
    st.sampled_from(["[", '{"choices": [', '{"a": ', '{"choices": {']), st.integers(1, 20_000)
).map(lambda pair: (pair[0] * pair[1]).encode())
_recoded = st.tuples(_completions, st.sampled_from(["utf-16", "utf-32-be", "utf-8-sig", "cp037"])).map(
    lambda pair: pair[0].decode().encode(pair[1])
)


def _damaged(data: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, 2**64 - 1).map(lambda number: mutated(data, Random(number)))


bodies = st.one_of(
    _completions,
    _completions.flatmap(_damaged),
    json_values.map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=40),
    _deep,
    _recoded,
)
_statuses = st.sampled_from(
    [200, 200, 200, 200, 204, 100, 101, 206, 301, 400, 401, 404, 429, 500, 503, 600, 999]
)
_headers = st.sampled_from(
    [
        b"",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Content-Type: text/html; charset=utf-16\r\n",
        b"Location: /v1/chat/completions\r\n",
        b"X: " + b"x" * 200_000 + b"\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
    ]
)


_GOOD: Mapping[str, st.SearchStrategy[str]] = {
    "json": (_good_scores | _scored).map(json.dumps),
    "llama-guard": st.sampled_from(["safe", "unsafe\nS1", "unsafe\nS1,S9"]),
    "llava-guard": st.sampled_from([("Safe", "NA: None applying"), ("Unsafe", "O3: Sexual Content")]).map(
        lambda pair: json.dumps({"rating": pair[0], "category": pair[1], "rationale": ""})
    ),
    "yes-no": st.sampled_from(["Yes", "No"]),
    "shieldgemma-2": st.sampled_from(["Yes", "No"]),
}


@st.composite
def _responses(draw: st.DrawFn, answers: str) -> bytes:
    """All that a server sends, from the status line on."""
    good = draw(st.integers(0, 3)) == 0
    choice = {"message": {"content": draw(_GOOD[answers])}} if good else None
    body = json.dumps({"choices": [choice]}).encode() if good else draw(bodies)
    whole = draw(st.booleans())
    head = b"HTTP/1.1 200 OK\r\n" if whole else b"HTTP/1.1 %d \r\n%s" % (draw(_statuses), draw(_headers))
    response = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return draw(_damaged(response)) if draw(st.integers(0, 4)) == 4 else response


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server sends to a judge that asks for one of the kinds of ``answers``."""

    answers: str
    response: bytes


cases = st.sampled_from(list(VisionLanguageModel.questions)).flatmap(
    lambda answers: st.builds(Answer, st.just(answers), _responses(answers))
)


def check(case: Answer) -> Tried:
    """Ask about two items, of which each has findings or a reason why it has none."""
    return check_with(_server(), case)


@cache
def _server() -> ChatServer:
    """One that runs until the process ends."""
    server = ChatServer()
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def check_with(server: ChatServer, case: Answer) -> Tried:
    server.answer = lambda body: iter([case.response.replace(_NUMBER.encode(), _number(body))])
    judge, items = _judge(server.url, case.answers)
    started = time.monotonic()
    given, cpu_s = timed(lambda: judge.find(items))
    assert time.monotonic() - started < _LONGEST_S
    assert isinstance(given, list)
    assert len(given) == len(items)
    for each in given:
        _check_answer(each)
    return Tried(len(items), sum(isinstance(each, FilterError) for each in given), cpu_s)


@cache
def _judge(url: str, answers: str) -> tuple[Any, Sequence[Any]]:
    options = {
        "answers": answers,
        "timeout_s": _TIMEOUT_S,
        "attempts": _ATTEMPTS,
        "pause_s": 0.001,
    }
    if answers in LanguageModel.questions:
        return LanguageModel(url, "tiny", categories=_ASKED, **options), ["a cat", "a gun"]
    return VisionLanguageModel(url, "tiny", **options), [Image.new("RGB", (2, 2))] * 2


def _number(body: Mapping[str, Any]) -> bytes:
    """The number of the case that the question names, if it does."""
    told = body["messages"][0]["content"]
    example = told.rpartition("nothing else: ")[2] if isinstance(told, str) else ""
    return json.loads(example)["case"].encode() if example.startswith("{") else b""


def _check_answer(answer: Any) -> None:
    if isinstance(answer, FilterError):
        assert str(answer).strip(), "an error says nothing"
        return
    assert isinstance(answer, list)
    for finding in answer:
        assert finding.label in load_taxonomy().categories
        assert 0.0 <= finding.score <= 1.0


CHAT_ANSWERS = Subject("items asked about", cases, check, 5000, 1.0)

if __name__ == "__main__":
    main(CHAT_ANSWERS)
