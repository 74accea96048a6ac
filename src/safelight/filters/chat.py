"""Judges behind a chat endpoint with OpenAI's interface: asking, asking again, and keeping to time."""

from __future__ import annotations

import json
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from safelight.errors import FilterError, MissingExtraError, no_such
from safelight.filters.questions import QUESTIONS, Case, Question, Questions, Rules, Scores
from safelight.taxonomy import load_taxonomy
from safelight.types import Finding

Item = TypeVar("Item")

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S = 30.0
# A copyright is not a harm that a model can see without knowing whose it is.
_DEFAULT = tuple(category for category in load_taxonomy().categories if category != "ip")


@dataclass(eq=False)
class ChatJudge(ABC, Generic[Item]):
    """Reports every category with the score that the model gives it.

    ``url`` ends before ``/chat/completions``. ``answers`` is how the model answers: a key of ``questions``.
    ``guidelines`` is added to what the model is told, or is a table that says for some categories what the
    service forbids, in place of the taxonomy's words. The key is read from the environment variable
    ``key_variable``. An item whose answer cannot be had or read, after ``attempts`` with growing pauses, is
    blocked; so is one of a batch that has not been asked about after ``deadline_s``, which should be less
    than the policy's ``timeout_s`` by one request's ``timeout_s``.

    Raises ``FilterError`` for options that make no sense and ``MissingExtraError`` without httpx.
    """

    version: ClassVar[str] = "2"
    labels: ClassVar[frozenset[str]] = frozenset(load_taxonomy().categories)
    questions: ClassVar[Mapping[str, Questions]] = QUESTIONS
    # What a model that knows certain categories only is asked about if nothing else is said.
    usual: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    url: str
    model: str
    answers: str = "json"
    categories: Sequence[str] | None = None
    guidelines: str | Mapping[str, str] = ""
    key_variable: str = ""
    timeout_s: float = 20.0
    attempts: int = 3
    concurrency: int = 4
    pause_s: float = 0.5
    deadline_s: float = 25.0
    name: str = ""

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        return {"httpx": "language-model"}

    def __post_init__(self) -> None:
        if self.answers not in self.questions:
            raise FilterError(no_such("kind of answers", self.answers, self.questions))
        if self.categories is None:
            self.categories = self.usual.get(self.answers, _DEFAULT)
        if not self.categories or self.attempts < 1 or self.concurrency < 1:
            raise FilterError("a language model needs at least one category, one attempt and one connection.")
        self._rules = _rules(self.categories, self.guidelines)
        self._client = _client(self.url, self.key_variable, self.timeout_s)

    def find(self, items: Sequence[Item]) -> list[list[Finding] | FilterError]:
        ends = time.monotonic() + self.deadline_s
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix=self.name) as pool:
            return list(pool.map(lambda item: self._judge(item, ends), items))

    @abstractmethod
    def _case(self, item: Item) -> Case:
        """``item`` as the model is shown it; raises ``FilterError`` if it cannot be shown."""

    def _judge(self, item: Item, ends: float) -> list[Finding] | FilterError:
        scores: dict[str, float] = {}
        try:
            for question in self.questions[self.answers](self._case(item), self._rules):
                scores.update(self._ask(question, ends))
        except FilterError as error:
            return error
        return [Finding(category, score, self.name) for category, score in scores.items()]

    def _ask(self, question: Question, ends: float) -> Scores:
        """The scores in the model's answer; a server that is busy is asked again."""
        body = {
            "model": self.model,
            "messages": list(question.messages),
            "temperature": 0.0,
            **question.options,
        }
        trouble = ""
        for attempt in range(self.attempts):
            self._wait(attempt, ends, trouble)
            response, trouble = self._post(body)
            if response is not None:
                return question.read(_choice(response))
        raise FilterError(f"{trouble}, {self.attempts} times.")

    def _post(self, body: Mapping[str, Any]) -> tuple[Any, str]:
        """The response, or why asking again may help; raises ``FilterError`` where it would not."""
        import httpx

        try:
            # In ASCII, which any prompt can be written in.
            response = self._client.post("chat/completions", content=json.dumps(body))
        except httpx.HTTPError as error:
            return None, f"the server did not answer ({type(error).__name__})"
        trouble = f"the server answered with status {response.status_code}"
        if response.status_code in _RETRIED:
            return None, trouble
        if not response.is_success:
            raise FilterError(f"{trouble}.")
        return response, ""

    def _wait(self, attempt: int, ends: float, trouble: str) -> None:
        """Before another attempt: twice as long each time, and not the same for everybody."""
        if attempt:
            longest = min(_LONGEST_WAIT_S, self.pause_s * 2.0 ** (attempt - 1))
            time.sleep(longest * random.uniform(0.5, 1.5))
        if time.monotonic() > ends:
            why = f" ({trouble})" if trouble else ""
            raise FilterError(f"its batch was not through after {self.deadline_s:g} s{why}.")


def _rules(categories: Sequence[str], guidelines: str | Mapping[str, str]) -> Rules:
    known = load_taxonomy().categories
    own = {} if isinstance(guidelines, str) else guidelines
    if unknown := [category for category in (*categories, *own) if category not in known]:
        raise FilterError(no_such("category", unknown[0], known))
    if idle := [category for category in own if category not in categories]:
        raise FilterError(f'there are guidelines for "{idle[0]}"; list it under categories as well.')
    forbidden = {category: own.get(category, known[category].meaning) for category in categories}
    return Rules(forbidden, guidelines if isinstance(guidelines, str) else "")


def _client(url: str, key_variable: str, timeout_s: float) -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("a language model as judge", "language-model") from error
    headers = {"Content-Type": "application/json"}
    if key_variable and key_variable not in os.environ:
        raise FilterError(
            f"the environment variable {key_variable} is not set; it should hold the key of the server."
        )
    if key_variable:
        headers["Authorization"] = f"Bearer {os.environ[key_variable]}"
    return httpx.Client(base_url=url, headers=headers, timeout=timeout_s)


def _choice(response: Any) -> Any:
    try:
        return response.json()["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise FilterError("the answer of the server is not a chat completion.") from error
