"""A language model as judge: any chat endpoint with OpenAI's interface. Optional, and off by default."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from safelight.errors import FilterError, MissingExtraError, no_such
from safelight.filters.text.questions import QUESTIONS, Question
from safelight.registry import register
from safelight.taxonomy import load_taxonomy
from safelight.types import Finding

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S = 30.0
# A copyright is not a harm that a model can see in a prompt without knowing whose it is.
_DEFAULT = tuple(category for category in load_taxonomy().categories if category != "ip")


@register("prompt_filter", "language-model")
class LanguageModel:
    """Reports every category with the score that the model gives it.

    ``url`` ends before ``/chat/completions``. ``answers`` is how the model answers: "json" (any model that
    follows instructions), "llama-guard", or "yes-no" (ShieldGemma; one request a category). ``guidelines``
    is added to what the model is told. The key is read from the environment variable ``key_variable``.
    A prompt whose answer cannot be had or read, after ``attempts`` with growing pauses, is blocked; so is
    one of a batch that has not been asked about after ``deadline_s``, which should be less than the policy's
    ``timeout_s`` by one request's ``timeout_s``.

    Raises ``FilterError`` for options that make no sense and ``MissingExtraError`` without httpx.
    """

    version = "1"

    def __init__(
        self,
        url: str,
        model: str,
        answers: str = "json",
        categories: Sequence[str] = _DEFAULT,
        guidelines: str = "",
        key_variable: str = "",
        timeout_s: float = 20.0,
        attempts: int = 3,
        concurrency: int = 4,
        pause_s: float = 0.5,
        deadline_s: float = 25.0,
        name: str = "language-model",
    ) -> None:
        _check(answers, categories, attempts, concurrency, key_variable)
        self.name = name
        self.model = model
        self.labels = frozenset(load_taxonomy().categories)
        self._questions = QUESTIONS[answers]
        self._categories = tuple(categories)
        self._guidelines = guidelines
        self._attempts = attempts
        self._pause_s = pause_s
        self._client = _client(url, key_variable, timeout_s)
        self._concurrency = concurrency
        self._deadline_s = deadline_s

    def find(self, prompts: Sequence[str]) -> list[list[Finding] | FilterError]:
        ends = time.monotonic() + self._deadline_s
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix=self.name) as pool:
            return list(pool.map(lambda prompt: self._judge(prompt, ends), prompts))

    def _judge(self, prompt: str, ends: float) -> list[Finding] | FilterError:
        scores: dict[str, float] = {}
        try:
            for question in self._questions(prompt, self._categories, self._guidelines):
                if time.monotonic() > ends:
                    raise FilterError(f"its batch was not through after {self._deadline_s:g} s.")
                scores.update(self._ask(question))
        except FilterError as error:
            return error
        return [Finding(category, score, self.name) for category, score in scores.items()]

    def _ask(self, question: Question) -> Any:
        """The scores in the model's answer; a server that is busy is asked again."""
        import httpx

        body = {
            "model": self.model,
            "messages": list(question.messages),
            "temperature": 0.0,
            **question.options,
        }
        trouble = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._wait_s(attempt))
            try:
                response = self._client.post("chat/completions", json=body)
            except httpx.HTTPError as error:
                trouble = f"the server did not answer ({type(error).__name__})"
                continue
            trouble = f"the server answered with status {response.status_code}"
            if response.status_code not in _RETRIED:
                break
        else:
            raise FilterError(f"{trouble}, {self._attempts} times.")
        if not response.is_success:
            raise FilterError(f"{trouble}.")
        return question.read(_choice(response))

    def _wait_s(self, attempt: int) -> float:
        """Twice as long each time, and not the same for everybody."""
        longest = min(_LONGEST_WAIT_S, self._pause_s * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.5)


def _check(answers: str, categories: Sequence[str], attempts: int, concurrency: int, key: str) -> None:
    if answers not in QUESTIONS:
        raise FilterError(no_such("kind of answers", answers, QUESTIONS))
    known = load_taxonomy().categories
    if unknown := [category for category in categories if category not in known]:
        raise FilterError(no_such("category", unknown[0], known))
    if not categories or attempts < 1 or concurrency < 1:
        raise FilterError("a language model needs at least one category, one attempt and one connection.")
    if key and key not in os.environ:
        raise FilterError(f"the environment variable {key} is not set; it should hold the key of the server.")


def _client(url: str, key_variable: str, timeout_s: float) -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("a language model as judge", "language-model") from error
    headers = {"Authorization": f"Bearer {os.environ[key_variable]}"} if key_variable else {}
    return httpx.Client(base_url=url, headers=headers, timeout=timeout_s)


def _choice(response: Any) -> Any:
    try:
        return response.json()["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise FilterError("the answer of the server is not a chat completion.") from error
